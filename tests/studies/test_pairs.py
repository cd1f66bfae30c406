"""Pairs of texts: three, of both models, written once."""

from explorer.studies import pairs
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

RECIPE = Recipe(bits=2, quant="rtn")


def finished(bench: Workbench) -> tuple[list[float], tuple[pairs.Pair, ...]]:
    work, shares = pairs.write(bench, RECIPE, tokens=6), list[float]()
    while True:
        try:
            shares.append(next(work))
        except StopIteration as end:
            return shares, end.value


def test_a_pair_is_what_either_model_writes(workbench: Workbench) -> None:
    shares, found = finished(workbench)
    assert [pair.prompt for pair in found] == list(pairs.prompts()) and len(found) == 3
    for pair in found:
        prompt = Prompt(text=pair.prompt, new_tokens=6)
        assert pair.original == [each.text for each in workbench.write(None, prompt)][-1]
        assert pair.compressed == [each.text for each in workbench.write(RECIPE, prompt)][-1]
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] <= 1
    assert any(pair.original != pair.compressed for pair in found)


def test_they_are_written_once_and_kept_with_what_was_measured(workbench: Workbench) -> None:
    workbench.measure(RECIPE, tokens=20, rounds=1)
    _, found = finished(workbench)
    known = workbench.measured(RECIPE)
    assert known and known.texts == found and known.quality
    assert finished(workbench) == ([], found)
