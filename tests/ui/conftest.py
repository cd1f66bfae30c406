"""A desk on a tiny model, and control values as the page sends them."""

from pathlib import Path

import pytest

from explorer.ui.asks import Controls
from explorer.ui.desk import Desk
from explorer.workbench.workbench import Workbench


@pytest.fixture
def desk(workbench: Workbench) -> Desk:
    return Desk(workbench)


@pytest.fixture
def values() -> Controls:
    return Controls(sparsity=50, bits="4", keep=100, head_bits="8", group="auto", prompt="the cat", length=6)


@pytest.fixture
def tiny(folders: dict[str, Path]) -> Path:
    return folders["llama"]
