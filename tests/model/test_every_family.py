"""Every causal type that transformers knows, as far as a minute a type allows: opened as transformers opens it,
calibrated, rounded, exported and opened again; or refused in one sentence. The whole of it: `tests/everything.py`."""

import pytest

from tests import families
from tests.everything import RECIPES, Outcome, document, of_type

QUICK = {"bits": RECIPES["bits"]}


@pytest.mark.parametrize("kind", families.types())
def test_a_type_works_or_is_refused_in_one_sentence(kind: str) -> None:
    found = of_type(kind, QUICK)
    if found.built:
        pytest.skip(f"cannot be built here: {found.built}")
    assert not found.faults, found.faults
    assert "\n" not in found.refused and len(found.refused) < 400


def test_the_document_says_what_was_found() -> None:
    fine = Outcome("one", parts=dict.fromkeys(RECIPES, "works") | {"width": "refused: no one MLP."})
    text = document([fine, Outcome("two", refused="It is no causal model."), Outcome("three", built="needs more")])
    assert "of the other\n1, **1 work**" in text and "- **one**: width: no one MLP." in text
    assert "- **two**: It is no causal model." in text and "- **three**: needs more" in text
