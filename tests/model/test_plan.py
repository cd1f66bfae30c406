"""What a recipe asks of every matrix, from shapes alone."""

import pytest

from explorer.layers.storage import Spec
from explorer.layers.targets import Target
from explorer.model.plan import DENSE, Allotment, Plan, plans
from explorer.values.recipe import Recipe

FOUND = [
    Target(name="embed", kind="embedding", shape=(300, 64)),
    Target(name="h.0.attn.q", kind="attention", shape=(64, 64), block=0),
    Target(name="h.0.mlp.up", kind="mlp", shape=(128, 64), block=0),
    Target(name="h.1.attn.q", kind="attention", shape=(64, 64), block=1),
    Target(name="h.1.mlp.up", kind="mlp", shape=(128, 64), block=1),
    Target(name="head", kind="head", shape=(300, 64), tied_to="embed"),
]
Q, UP = "h.0.attn.q", "h.0.mlp.up"


def single(spec: Spec, shape: tuple[int, int] = (64, 64)) -> Plan:
    return Plan(factors=((shape, spec),))


def test_nothing_asked_is_nothing_planned() -> None:
    assert set(plans(FOUND, Recipe()).values()) == {Plan()}


@pytest.mark.parametrize(
    "recipe, plan",
    [
        (Recipe(bits=4), single(Spec(bits=4))),
        (Recipe(bits=8), single(Spec(bits=8, group=0))),
        (Recipe(bits=3, group="32"), single(Spec(bits=3, group=32))),
        (Recipe(sparsity=0.25), single(Spec(kept=48))),
        (Recipe(sparsity=0.25, scope="layer"), single(Spec(kept=3072, flat=True))),
        (Recipe(pattern="2:4", bits=4), single(Spec(kept=32, bits=4))),
        (Recipe(quant="nf4", double=True), single(Spec(format="nf4", double=True))),
        (Recipe(quant="int8"), single(Spec(format="int8"))),
        (Recipe(keep=0.5), Plan(factors=(((64, 16), DENSE), ((16, 64), DENSE)))),
        (
            Recipe(keep=0.5, sparsity=0.5, bits=2),
            Plan(factors=(((64, 16), Spec(bits=2, kept=8)), ((16, 64), Spec(bits=2, kept=32)))),
        ),
        (
            Recipe(bits=4, residual_rank=8),
            Plan(factors=(((64, 64), Spec(bits=4)),), residual=(((64, 8), DENSE), ((8, 64), DENSE))),
        ),
        (
            Recipe(bits=4, residual_rank=128),
            Plan(factors=(((64, 64), Spec(bits=4)),), residual=(((64, 64), DENSE), ((64, 64), DENSE))),
        ),
        (Recipe(bits=4, quant="awq"), Plan(factors=(((64, 64), Spec(bits=4)),), scaled=True)),
        (Recipe(layers=("mlp=bits:4",), residual_rank=8, quant="awq"), Plan()),
        (Recipe(bits=4, protect=("attention",)), Plan()),
    ],
    ids=str,
)
def test_an_attention_matrix_is_planned_as_asked(recipe: Recipe, plan: Plan) -> None:
    found = plans(FOUND, recipe)
    assert found[Q] == found["h.1.attn.q"] == plan
    assert found["embed"] == found["head"] == Plan()


def test_the_head_has_its_own_bits_and_a_tied_one_its_embeddings() -> None:
    found = plans(FOUND, Recipe(head_bits=6, sparsity=0.5, layers=("embedding=bits:3,group:32",)))
    assert found["embed"] == found["head"] == single(Spec(bits=3, group=32), (300, 64))
    assert found[Q] == single(Spec(kept=32))
    apart = [*FOUND[:-1], Target(name="head", kind="head", shape=(300, 64))]
    assert plans(apart, Recipe(head_bits=6, layers=("embedding=bits:3",)))["head"] == single(Spec(bits=6), (300, 64))


@pytest.mark.parametrize("name", ["head", "embedding", "embed"])
def test_who_protects_one_of_two_tied_protects_both(name: str) -> None:
    found = plans(FOUND, Recipe(head_bits=6, bits=4, protect=(name,)))
    assert found["embed"] == found["head"] == Plan() and found[Q] == single(Spec(bits=4))
    apart = [*FOUND[:-1], Target(name="head", kind="head", shape=(300, 64))]
    assert sum(plans(apart, Recipe(head_bits=6, protect=(name,)))[t] == Plan() for t in ("embed", "head")) == 1


@pytest.mark.parametrize("name", ["head", "embed", "embedding"])
def test_an_exception_for_one_of_two_tied_is_for_both(name: str) -> None:
    planned = plans(FOUND, Recipe(bits=4, head_bits=4, layers=(f"{name}=bits:6",)))
    assert planned["head"] == planned["embed"] and planned["head"].factors[0][1].bits == 6


def test_what_a_budget_leaves_is_planned() -> None:
    budget = Allotment(kept={Q: 1000}, rank={Q: 0, UP: 8})
    assert plans(FOUND, Recipe(sparsity=0.5, scope="global"), budget)[Q] == single(Spec(kept=1000, flat=True))
    found = plans(FOUND, Recipe(keep=0.5, allocate="global"), budget)
    assert found[Q] == Plan() and found[UP] == Plan(factors=(((128, 8), DENSE), ((8, 64), DENSE)))
    assert len(found["h.1.mlp.up"].factors) == 2  # not in the budget: its own share


def test_first_and_last_are_blocks() -> None:
    found = plans(FOUND, Recipe(layers=("first=bits:8", "last=bits:2")))
    assert {name: [spec.bits for _, spec in plan.factors] for name, plan in found.items()} == {
        "embed": [], Q: [8], UP: [8], "h.1.attn.q": [2], "h.1.mlp.up": [2], "head": [],
    }  # fmt: skip
