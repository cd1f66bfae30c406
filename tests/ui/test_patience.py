"""A button steps in where changes take long, for the visit and the kind of change that it is so for."""

from explorer.ui.patience import KEPT, Patience


def test_only_two_long_changes_in_a_row_make_a_visit_wait() -> None:
    patience = Patience()
    patience.took("a", False, 9.0)
    assert patience.waits("a", False) == 0.0  # one may be chance
    patience.took("a", False, 8.0)
    assert patience.waits("a", False) == 8.0
    assert patience.waits("b", False) == patience.waits("a", True) == 0.0
    patience.took("a", False, 0.5)
    assert patience.waits("a", False) == 0.0


def test_visits_are_forgotten_in_the_end() -> None:
    patience = Patience()
    for visit in range(KEPT + 1):
        patience.took(str(visit), True, 9.0)
        patience.took(str(visit), True, 9.0)
    assert patience.waits("0", True) == 0.0 and patience.waits(str(KEPT), True) == 9.0
