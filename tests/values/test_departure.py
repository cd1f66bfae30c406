"""A check as plain numbers."""

from explorer.values.departure import Check
from explorer.values.reading import Reading


def test_a_check_is_told_in_numbers_that_json_knows() -> None:
    one = Reading(value=1, unit="", how="measured", n=3)
    found = Check(opened_by="x", bytes=one, kl=one, greedy=one).to_dict()
    assert found["kl"] == {"value": 1, "low": None, "high": None, "n": 3}
    assert found["opened_by"] == "x" and "texts" not in found
