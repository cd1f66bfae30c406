"""One model, many visitors: each call carries its own recipe."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.layers.targets import targets
from explorer.model.opening import Loaded
from explorer.model.preflight import ModelRejected
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.workbench.variants import KEPT
from explorer.workbench.workbench import Workbench

TEXTS = {"story": ["The cat sat on the mat and waited for the rain to stop."], "code": ["def add(a, b): return a + b"]}
RECIPES = [Recipe(bits=4), Recipe(sparsity=0.5), Recipe(keep=0.6), Recipe(bits=3, head_bits=4)]
DATA_FREE = [Recipe(bits=4, quant="rtn"), Recipe(sparsity=0.5, prune="magnitude", keep=0.6, factorize="svd")]
PROMPT = Prompt(text="the cat", new_tokens=12, chat=False)


def ids_of(workbench: Workbench, recipe: Recipe | None, prompt: Prompt = PROMPT) -> list[int]:
    return [piece.token for piece in workbench.write(recipe, prompt)]


def test_loading_tells_where_the_model_is_from(workbench: Workbench) -> None:
    assert workbench.ready.is_set() and workbench.problem == ""
    assert "the folder llama" in workbench.message and workbench.seconds["load"] > 0


def test_a_model_that_is_refused_leaves_its_sentence(tmp_path: Path) -> None:
    workbench = Workbench(str(tmp_path / "nothing"))
    with pytest.raises(ModelRejected):
        workbench.load()
    assert workbench.problem and not workbench.ready.is_set()


def test_a_preview_is_what_the_variant_weighs(workbench: Workbench) -> None:
    for recipe in RECIPES:
        size = workbench.variant(recipe).size
        assert workbench.preview(recipe).file_bytes.value == size.file_bytes.value == size.predicted_bytes.value
        assert workbench.preview(recipe).parameters.value == size.parameters.value
        assert size.file_bytes.how == "measured" and size.resident_bytes is not None


def test_equal_recipes_are_one_variant_and_few_are_kept(workbench: Workbench) -> None:
    first = workbench.variant(RECIPES[0])
    assert workbench.variant(Recipe(bits=4)) is first
    for recipe in RECIPES[1:KEPT]:
        workbench.variant(recipe)
    assert workbench.variant(RECIPES[0]) is first  # used last, so not the one that goes
    workbench.variant(Recipe(bits=2))
    assert len(workbench.variants._ready) == KEPT
    assert RECIPES[0] in workbench.variants._ready and RECIPES[1] not in workbench.variants._ready


def test_a_cached_answer_equals_a_fresh_one(workbench: Workbench, folders: dict[str, Path]) -> None:
    for recipe in (None, Recipe(bits=4), Recipe()):
        first, again = ids_of(workbench, recipe), ids_of(workbench, recipe)
        assert first == again == ids_of(Workbench(str(folders["llama"])).load(), recipe)


def test_the_empty_recipe_writes_what_the_original_writes(workbench: Workbench) -> None:
    assert ids_of(workbench, Recipe()) == ids_of(workbench, None)


def test_the_originals_text_is_written_once_and_kept(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list(workbench.write(None, PROMPT))
    monkeypatch.setattr("explorer.workbench.workbench.stream", lambda *_, **__: pytest.fail("written again"))
    assert list(workbench.write(None, PROMPT)) == written


def test_a_text_that_was_stopped_or_left_is_not_kept(workbench: Workbench) -> None:
    assert len(list(workbench.write(None, PROMPT, stopped=lambda: True))) == 1
    next(iter(workbench.write(None, PROMPT)))
    assert len(ids_of(workbench, None)) == 12


def test_different_prompts_seeds_and_temperatures_are_different_texts(workbench: Workbench) -> None:
    texts = [
        ids_of(workbench, None, Prompt(text=text, new_tokens=12, chat=False, seed=seed, temperature=heat))
        for text, seed, heat in (("the cat", 0, 0.0), ("the dog", 0, 0.0), ("the cat", 0, 1.0), ("the cat", 1, 1.0))
    ]
    assert len({tuple(text) for text in texts}) == 4


def test_visitors_at_once_get_what_each_gets_alone(workbench: Workbench) -> None:
    wanted: list[Recipe | None] = [*RECIPES, None]
    alone = {recipe: ids_of(workbench, recipe) for recipe in wanted}
    workbench._originals.clear()
    workbench.variants._ready.clear()
    with ThreadPoolExecutor(len(wanted)) as pool:
        for _ in range(2):
            assert dict(zip(wanted, pool.map(lambda recipe: ids_of(workbench, recipe), wanted), strict=True)) == alone


def test_measuring_beside_writing_disturbs_neither(workbench: Workbench) -> None:
    alone, judged = ids_of(workbench, RECIPES[0]), list(workbench.evaluate(RECIPES[1], 10**9))[-1]
    with ThreadPoolExecutor(2) as pool:
        text = pool.submit(ids_of, workbench, RECIPES[0])
        quality = pool.submit(lambda: list(workbench.evaluate(RECIPES[1], 10**9))[-1])
        assert text.result() == alone and quality.result() == judged


def test_nothing_is_held_while_a_visitor_reads(unprepared: Workbench) -> None:
    one, other = DATA_FREE
    text, quality = unprepared.write(one, PROMPT), unprepared.evaluate(one, 10**9)
    half: list[Any] = [text, quality, unprepared.time(one, 2, 1), unprepared.prepare()]
    for generator in half:
        next(generator)
        assert len(ids_of(unprepared, other)) == 12


def test_what_needs_the_calibration_waits_for_it(unprepared: Workbench) -> None:
    for recipe in (*RECIPES, Recipe(depth=0.5), Recipe(bits=4, quant="gptq")):
        assert unprepared.preview(recipe).file_bytes.value > 0
        with pytest.raises(ValueError, match="needs the calibration"):
            unprepared.variant(recipe)
    for recipe in DATA_FREE:
        assert unprepared.variant(recipe).recipe == recipe


def test_what_was_made_with_less_is_made_again_when_more_is_known(unprepared: Workbench) -> None:
    """At the first level, after the whole text, and once it is known which outputs matter."""
    recipes = [Recipe(sparsity=0.5, keep=0.6), Recipe(keep=0.4, allocate="global"), Recipe(bits=3, quant="gptq")]
    free, made, levels = unprepared.variant(DATA_FREE[0]), [], set()
    for _ in unprepared.prepare():
        if unprepared.facts.tokens:
            levels.add(unprepared.facts.tokens)
            recipe = recipes[len(made) % 3]
            made.append(unprepared.variant(recipe))
            unprepared.record(made[-1])
    assert len(levels) == 2
    fresh = Workbench(unprepared.name, texts=TEXTS).load()
    for recipe in recipes:
        now = unprepared.variant(recipe)
        assert now.allotted == fresh.variant(recipe).allotted
        assert ids_of(unprepared, recipe) == ids_of(fresh, recipe)
    assert unprepared.variant(DATA_FREE[0]).size == free.size
    for key, tensor in fresh.facts._kept.items():
        assert torch.equal(unprepared.facts._kept[key], tensor), key


def test_work_that_was_overtaken_by_better_facts_is_done_again(unprepared: Workbench) -> None:
    steps, recipe = unprepared.prepare(), Recipe(bits=3, quant="gptq", sparsity=0.5)
    while not unprepared.facts.tokens:
        next(steps)
    work = unprepared.apply(recipe)
    next(work)
    list(steps)
    list(work)
    fresh = Workbench(unprepared.name, texts=TEXTS).load()
    assert ids_of(unprepared, recipe) == ids_of(fresh, recipe)


def test_going_back_to_a_slow_setting_takes_it_from_disk(
    workbench: Workbench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(bits=3, quant="gptq", depth=0.5, head_bits=4)
    assert len(list(workbench.apply(recipe))) > 1
    before, size = ids_of(workbench, recipe), workbench.variant(recipe).size
    monkeypatch.setattr("explorer.workbench.variants.build", lambda *_: pytest.fail("worked out again"))
    again = Workbench(workbench.name, texts=TEXTS).load()
    assert list(again.apply(recipe)) == [] and ids_of(again, recipe) == before
    found = again.variant(recipe).size
    assert found.file_bytes == size.file_bytes and found.parameters == size.parameters and found.parts == size.parts
    assert again.preview(recipe).file_bytes.value == size.file_bytes.value


def test_what_was_measured_is_kept_and_adds_up(workbench: Workbench) -> None:
    assert workbench.measured(RECIPES[0]) is None
    first = workbench.record(workbench.variant(RECIPES[0]))
    assert first.quality is None
    quality = next(iter(workbench.evaluate(RECIPES[0], 1)))
    workbench.record(workbench.variant(RECIPES[0]), quality=quality)
    found = workbench.measured(RECIPES[0])
    assert found is not None and found.quality == quality and found.size == first.size
    assert found.seconds["apply"] > 0 and found.seconds["load"] > 0


def test_cost_counts_attention_of_fused_and_of_separate_projections(folders: dict[str, Path]) -> None:
    for name, layers in (("llama", 2), ("gpt2", 2), ("neox", 1)):
        bench = Workbench(str(folders[name])).load()
        products = sum(2 * t.shape[0] * t.shape[1] for t in targets(bench.loaded.model) if t.kind != "embedding")
        assert bench.cost(Recipe()).flops_per_token.value == products + 4 * layers * 64 * 128


def test_the_cost_of_fewer_blocks_is_that_of_fewer_blocks(folders: dict[str, Path]) -> None:
    for name in ("llama", "gpt2"):
        bench = Workbench(str(folders[name])).load()
        products = [
            sum(2 * t.shape[0] * t.shape[1] for t in targets(bench.loaded.model) if t.block == b) for b in (0, 1)
        ]
        saved = bench.cost(Recipe()).flops_per_token.value - bench.cost(Recipe(depth=0.5)).flops_per_token.value
        assert saved == products[0] + 4 * 64 * 128 == products[1] + 4 * 64 * 128


def test_an_export_is_written_from_the_recipe_and_its_measurements(
    workbench: Workbench, tmp_path: Path, llama: Loaded
) -> None:
    written = workbench.export(Recipe(bits=4), tmp_path / "out")
    assert written == workbench.preview(Recipe(bits=4)).file_bytes.value
    with pytest.raises(ValueError, match="exists already"):
        workbench.export(Recipe(bits=4), tmp_path / "out")


def test_an_export_is_not_compressed_a_second_time(workbench: Workbench, tmp_path: Path) -> None:
    workbench.export(Recipe(bits=4), tmp_path / "out")
    with pytest.raises(ModelRejected):
        Workbench(str(tmp_path / "out")).load()


def test_a_prompt_that_cannot_be_used_leaves_the_workbench_free(workbench: Workbench) -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="too long"):
        ids_of(workbench, RECIPES[0], Prompt(text="xyz " * 4000, chat=False))
    assert len(ids_of(workbench, RECIPES[0])) == 12
    assert threading.active_count() <= before


def test_no_curve_is_measured_before_the_facts_are_known(unprepared: Workbench) -> None:
    assert list(unprepared.measure_curves()) == [] and unprepared.curves.done == 0


def test_curves_are_measured_when_the_facts_are_known_and_predict(workbench: Workbench) -> None:
    assert workbench.curves.predict(Recipe(bits=4)) is None
    assert list(workbench.measure_curves())[-1] == 1
    told = workbench.curves.predict(Recipe(bits=4))
    assert told and told.value == list(workbench.evaluate(Recipe(bits=4), 512))[-1].kl.value
    assert Workbench(workbench.name, texts=workbench.texts).load().curves.done == 1
    assert Workbench(workbench.name, texts={"other": ["the cat sat on a mat"]}).load().curves.done == 0
