"""What may be taken of the free memory, also inside a container."""

from pathlib import Path

import pytest

from explorer.model import memory
from explorer.model.memory import check_memory, free_bytes
from explorer.model.preflight import ModelRejected


def test_memory_is_refused_above_80_percent() -> None:
    check_memory(800, 1000)
    check_memory(1, None)
    with pytest.raises(ModelRejected, match=r"needs 9\.0 GB .* free 10\.0 GB") as caught:
        check_memory(9 * 10**9, 10**10)
    assert caught.value.code == "memory"


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [
        ("1000", "400", "inactive_file 100\n", 700),
        ("1000", "400", "", 600),
        ("100", "400", "", 0),
        ("max", "400", "", None),
    ],
)
def test_free_memory_heeds_the_limit_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, used: str, cached: str, free: int | None
) -> None:
    group = tmp_path / "group" / "own"
    group.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("4:memory:/v1\n0::/group/own\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "cgroup")
    unlimited = free_bytes()
    for name, content in {"max": limit, "current": used, "stat": "anon 5\n" + cached}.items():
        (group.parent / f"memory.{name}").write_text(content + "\n")
    assert free_bytes() == free if free is not None else free_bytes() > unlimited / 2
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "none")
    assert free_bytes() > unlimited / 2
