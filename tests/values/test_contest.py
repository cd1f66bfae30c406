from explorer.values.contest import Contender, Contest
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe


def contender(name: str, cost: float, bits: float, apart: tuple[float, float] | None = None) -> Contender:
    def reading(value: float, unit: str = "") -> Reading:
        return Reading(value=value, unit=unit, how="measured")

    told = (
        None
        if apart is None
        else Reading(value=sum(apart) / 2, unit="bits/byte", how="measured", low=apart[0], high=apart[1])
    )
    costs = {f: reading(cost) for f in ("file_bytes", "parameters", "ms_per_token", "flops_per_token")}
    return Contender(name=name, recipe=Recipe(), bits_per_byte=reading(bits), difference=told, **costs)


def contest(*ours: Contender) -> Contest:
    return Contest(rival=contender("rival", 100, 1.0), ours=ours, count=10, bytes_per_token=4.0)


def test_the_best_that_costs_no_more_is_met() -> None:
    found = contest(contender("dear", 101, 0.1), contender("good", 100, 0.8, (-0.3, -0.1)), contender("poor", 50, 2.0))
    assert {match.best and match.best.name for match in found.matches} == {"good"}
    assert {match.verdict for match in found.matches} == {"better"}


def test_a_verdict_needs_the_whole_interval() -> None:
    for apart, verdict in (((0.1, 0.3), "worse"), ((-0.1, 0.3), "no clear difference"), (None, "no clear difference")):
        assert contest(contender("one", 1, 1.1, apart)).matches[0].verdict == verdict


def test_nothing_as_cheap_and_what_is_no_number() -> None:
    assert contest(contender("dear", 101, 0.1)).matches[0].verdict == "none as cheap"
    found = contest(contender("broken", 1, float("nan")), contender("sound", 2, 9.0, (8.0, 9.0)))
    assert found.matches[0].best is found.ours[1]
    assert found.to_dict()["ours"][0]["bits_per_byte"]["value"] is None
