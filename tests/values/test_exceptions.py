"""Exceptions and protection: read, refused, and meant."""

from urllib.parse import parse_qsl

import pytest

from explorer.values.exceptions import Setting, names_of
from explorer.values.recipe import Recipe


@pytest.mark.parametrize(
    "entry",
    ["mlp", "=bits:4", "mlp=", "mlp=colour:1", "mlp=bits:9", "mlp=bits:nan", "mlp=bits", "mlp=keep:0", "mlp=group:inf"]
    + ["mlp=group:nan", "mlp=group:16", "mlp=group:64.5", "mlp=sparsity:1", "mlp=sparsity:x", "mlp=bits:1e999"],
)
def test_an_exception_that_cannot_be_read_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="mlp|(layers|keep|sparsity) must"):
        Recipe(layers=(entry,))


def test_exceptions_and_protection_reach_what_they_name() -> None:
    recipe = Recipe(
        bits=4,
        sparsity=0.2,
        head_bits=6,
        layers=("first=bits:8", "mlp=keep:0.5,sparsity:0", "*.3.attn.q=bits:3,group:32", "embedding=bits:2,keep:0.5"),
        protect=("last", "o"),
    )
    for name, kind, place, wanted in [
        ("h.1.attn.q", "attention", 1, Setting(bits=4, sparsity=0.2)),
        ("h.0.attn.q", "attention", 0, Setting(bits=8, sparsity=0.2, group=0)),
        ("h.0.mlp.up", "mlp", 0, Setting(bits=8, keep=0.5, group=0)),
        ("h.1.mlp.up", "mlp", 1, Setting(bits=4, keep=0.5)),
        ("h.3.attn.q", "attention", 3, Setting(bits=3, sparsity=0.2, group=32)),
        ("h.3.attn.o", "attention", 3, Setting(protected=True)),
        ("h.3.attn.no", "attention", 3, Setting(bits=4, sparsity=0.2)),
        ("h.4.mlp.up", "mlp", 4, Setting(protected=True)),
        ("embed", "embedding", -1, Setting(bits=2)),
        ("lm_head", "head", -1, Setting(bits=6)),
    ]:
        assert recipe.setting(name, kind, place, 5) == wanted, name


def test_many_exceptions_make_an_address_that_can_be_sent() -> None:
    many = tuple(
        f"model.layers.{i}.mlp.{kind}_proj=bits:{2 + i % 7}" for i in range(30) for kind in ("gate", "up", "down")
    )
    recipe = Recipe(bits=4, layers=many)
    query = recipe.to_query()
    assert len(query) < 800 < len(";".join(many))
    assert Recipe.from_dict(dict(parse_qsl(query))) == recipe
    few = Recipe(bits=4, layers=("mlp=bits:3",))
    assert "mlp" in few.to_query() and Recipe.from_dict(dict(parse_qsl(few.to_query()))) == few


@pytest.mark.parametrize("text", ["z.", "z.AAAA", "z.eJw", "z.ü", "z." + "A" * 401])
def test_packed_exceptions_that_are_damaged_are_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="layers"):
        Recipe(layers=names_of("layers", text))
