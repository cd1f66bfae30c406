"""Healing: nearer to the original on text that was held out, in the stored form, by the same way every time."""

import copy
import dataclasses
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from explorer.layers.dense import replace_linear_layers
from explorer.layers.linear import CompressedLinear
from explorer.measure.size import stored_bytes
from explorer.methods import distill
from explorer.model import exporting, healing, teach
from explorer.model.compressing import build, compress, settle
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.model.plan import NOTHING
from explorer.model.preflight import ModelRejected
from explorer.model.student import Student
from explorer.model.teach import Lessons
from explorer.values.progress import HealStep
from explorer.values.recipe import Recipe

FactsOf = Callable[[nn.Module], Facts]
RECIPES = [
    Recipe(sparsity=0.5),
    Recipe(sparsity=0.5, scope="layer", bits=4),
    Recipe(bits=3),
    Recipe(bits=4, group="0"),
    Recipe(bits=2, quant="awq", residual_rank=8),
    Recipe(keep=0.5),
    Recipe(keep=0.6, sparsity=0.3, bits=4),
    Recipe(quant="nf4"),
    Recipe(quant="int8", head_bits=4),
    Recipe(quant="nf4", double=True),
    Recipe(sparsity=0.5, bits=3, head_bits=4, protect=("first",)),
]


@pytest.fixture
def lessons(llama: Loaded) -> Lessons:
    """The tiny model's predictions on random tokens."""
    ids = torch.randint(2, 300, (24, 64), generator=torch.Generator().manual_seed(7))
    return teach.read(llama.model, ids)


def run(steps: Generator[HealStep, None, nn.Module]) -> tuple[nn.Module, list[HealStep]]:
    curve = []
    while True:
        try:
            curve.append(next(steps))
        except StopIteration as end:
            return end.value, curve


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.to_query)
def test_masks_and_codes_stay_and_all_else_gets_nearer_at_no_byte(
    llama: Loaded, facts_of: FactsOf, lessons: Lessons, recipe: Recipe
) -> None:
    base, hurt = state(llama.model), compress(llama.model, recipe, facts_of(llama.model))
    before = state(hurt)
    healed, curve = run(healing.heal(hurt, lessons, 30))
    after = state(healed)
    assert same(before, state(hurt)) and same(base, state(llama.model))
    assert {n: (t.shape, t.dtype) for n, t in after.items()} == {n: (t.shape, t.dtype) for n, t in before.items()}
    whole = [n for n, t in before.items() if t.dtype == torch.uint8 or n.endswith((".bitmap", ".packed", ".zero"))]
    assert all(torch.equal(before[name], after[name]) for name in whole)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert stored_bytes(healed) == stored_bytes(hurt)
    for name, module in healed.named_modules():
        if isinstance(module, CompressedLinear) and len(module.stored()) == 1:
            zeros = hurt.get_submodule(name).decoded() == 0
            assert not recipe.sparsity or (module.decoded()[zeros] == 0).all()
    assert min(step.kl.value for step in curve) < curve[0].kl.value


@pytest.mark.parametrize("recipe", [Recipe(sparsity=0.5), Recipe(bits=3), Recipe(keep=0.6)], ids=Recipe.to_query)
def test_the_kl_that_is_told_is_that_of_the_stored_model(llama32: Loaded, facts_of: FactsOf, recipe: Recipe) -> None:
    ids = torch.randint(2, 300, (24, 64), generator=torch.Generator().manual_seed(7))
    lessons = teach.read(llama32.model, ids)
    healed, curve = run(healing.heal(compress(llama32.model, recipe, facts_of(llama32.model)), lessons, 8))
    told = min(step.kl.value for step in curve)
    held = lessons.held_out
    with torch.inference_mode():
        logits = healed(input_ids=ids[held]).logits[:, :-1].flatten(0, 1)
    found = distill.divergence(logits, lessons.top[held].flatten(0, 1), lessons.log_p[held].flatten(0, 1))
    assert float(found) == pytest.approx(told, rel=1e-3, abs=1e-5)


def test_healing_is_the_same_every_time_and_another_order_is_another_result(
    llama: Loaded, facts_of: FactsOf, lessons: Lessons
) -> None:
    hurt = compress(llama.model, Recipe(sparsity=0.5), facts_of(llama.model))
    first, again, other = (state(run(healing.heal(hurt, lessons, 6, seed=seed))[0]) for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)


def test_a_stop_leaves_what_so_many_steps_would_have_made(llama: Loaded, facts_of: FactsOf, lessons: Lessons) -> None:
    hurt, seen = compress(llama.model, Recipe(bits=3), facts_of(llama.model)), list[int]()

    def stopped() -> bool:
        seen.append(1)
        return len(seen) > 7

    early, curve = run(healing.heal(hurt, lessons, 200, stopped=stopped))
    short, _ = run(healing.heal(hurt, lessons, 7))
    assert curve[-1].step == 7 and same(state(early), state(short))
    untouched, curve = run(healing.heal(hurt, lessons, 200, stopped=lambda: True))
    assert [step.step for step in curve] == [0] and same(state(untouched), state(hurt))


def test_the_best_is_kept_where_training_makes_it_worse(llama: Loaded, facts_of: FactsOf, lessons: Lessons) -> None:
    hurt = compress(llama.model, Recipe(bits=8), facts_of(llama.model))
    healed, curve = run(healing.heal(hurt, lessons, 4, rate=3000.0))
    assert curve[-1].kl.value > curve[0].kl.value and curve[-1].best_step == 0
    assert same(state(healed), state(hurt))


def test_hidden_states_are_learned_only_where_they_mean_the_same(
    llama: Loaded, facts_of: FactsOf, lessons: Lessons
) -> None:
    hurt = compress(llama.model, Recipe(bits=2), facts_of(llama.model))
    without = dataclasses.replace(lessons, hidden=())
    inside, outside, blind = (
        run(healing.heal(hurt, taught, 30, inside=also))[0]
        for taught, also in ((lessons, True), (lessons, False), (without, True))
    )
    assert same(state(outside), state(blind)) and not same(state(inside), state(outside))

    def lost(model: nn.Module) -> float:
        found = teach.read(model, lessons.ids[lessons.held_out]).hidden
        wanted = [states[lessons.held_out] for states in lessons.hidden]
        return sum(float(distill.apart(a.float(), b)) for a, b in zip(found, wanted, strict=True))

    assert lost(inside) < lost(outside)


def test_the_control_run_learns_the_next_token(llama: Loaded, facts_of: FactsOf, lessons: Lessons) -> None:
    hurt = compress(llama.model, Recipe(sparsity=0.5), facts_of(llama.model))
    _, curve = run(healing.heal(hurt, lessons, 1, plain=True))
    student = Student(hurt, False)
    trainer = healing._Trainer(student, lessons, 1, 1.0, 0, True)
    windows = [next(trainer.order) for _ in range(healing.WINDOWS)]
    ids = lessons.ids[windows]
    with torch.inference_mode():
        logits = hurt(input_ids=ids).logits[:, :-1].float().flatten(0, 1)
    wanted = nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
    assert curve[1].training_loss.value == pytest.approx(float(wanted), rel=0.02)


def test_a_student_of_fewer_blocks_learns_with_all_its_weights_and_stays_a_plain_model(
    llama: Loaded, facts_of: FactsOf, lessons: Lessons, tmp_path: Path
) -> None:
    recipe = Recipe(depth=0.5, width=0.25)
    hurt = compress(llama.model, recipe, facts_of(llama.model))
    healed, curve = run(healing.heal(hurt, lessons, 60, rate=3.0, everything=True, inside=False))
    assert curve[-1].kl.value < 0.9 * curve[0].kl.value
    exporting.write(healed, (recipe, NOTHING, "someone/base"), llama.tokenizer, {}, tmp_path / "student")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    with torch.inference_mode():
        assert torch.equal(replace_linear_layers(opened.eval())(lessons.ids).logits, healed(lessons.ids).logits)


@pytest.mark.parametrize("recipe", RECIPES[:7], ids=Recipe.to_query)
def test_an_export_of_a_healed_model_reads_back_equal(
    llama: Loaded, facts_of: FactsOf, lessons: Lessons, recipe: Recipe, tmp_path: Path
) -> None:
    steps = build(llama.model, recipe, facts_of(llama.model))
    built, _ = run(steps)  # type: ignore[arg-type]
    healed, _ = run(healing.heal(built.model, lessons, 3))  # type: ignore[arg-type, union-attr]
    about = (recipe, built.allotted, "someone/base")  # type: ignore[union-attr]
    assert exporting.write(healed, about, llama.tokenizer, {}, tmp_path / "out") == stored_bytes(healed)
    model, _, _ = exporting.read(tmp_path / "out")
    with torch.inference_mode():
        wanted = settle(copy.deepcopy(healed))(lessons.ids[:2]).logits
        assert torch.equal(model(lessons.ids[:2]).logits, wanted)


def test_what_takes_too_much_memory_is_refused(
    llama: Loaded, facts_of: FactsOf, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurt = compress(llama.model, Recipe(sparsity=0.5), facts_of(llama.model))
    monkeypatch.setattr(healing, "BYTES", 10**12)
    with pytest.raises(ModelRejected, match="memory"):
        run(healing.heal(hurt, lessons, 1))


def test_a_loss_that_is_not_a_number_is_told(llama: Loaded, lessons: Lessons) -> None:
    broken = copy.deepcopy(llama.model)
    next(p for p in broken.parameters() if p.dim() == 1).data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not a number"):
        run(healing.heal(broken, lessons, 3))
