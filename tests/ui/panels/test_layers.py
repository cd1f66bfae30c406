"""Layers at a glance: every matrix of a block has one bar in every strip, names stay text."""

import math

import pytest

from explorer.ui.panels import layers
from explorer.values.matrices import LayerReading
from explorer.values.reading import Reading


def row(name: str, kl: float = 0.1) -> LayerReading:
    def reading(value: float, unit: str) -> Reading:
        return Reading(value=value, unit=unit, how="measured")

    return LayerReading(
        name=name,
        kind="mlp",
        shape=(8, 8),
        rank=None,
        bits=4,
        kept=reading(1.0, "share"),
        zeros=reading(0.5, "share"),
        file_bytes=reading(64, "bytes"),
        output_error=reading(0.2, "share"),
        kl=reading(kl, "nats"),
    )


@pytest.mark.parametrize(
    "name, kind, block",
    [
        ("model.layers.12.self_attn.q_proj", "q_proj", 12),
        ("transformer.h.0.mlp.c_fc", "c_fc", 0),
        ("gpt_neox.layers.3.attention.dense", "dense", 3),
    ],
)
def test_kind_and_block_are_read_from_the_name(name: str, kind: str, block: int) -> None:
    assert layers.position(name) == (kind, block)


def test_every_matrix_has_a_bar_in_every_strip() -> None:
    rows = [row(f"model.layers.{b}.mlp.{kind}", kl) for b, kl in ((0, 0.1), (1, 2.0)) for kind in ("up", "down")]
    html = layers.strips([*rows, row("lm_head")])
    assert html.count("<i style=") == len(layers.FIGURES) * 4 and "lm_head" not in html
    assert html.count("height:16px") >= 2 and "KL alone" in html
    assert layers.strips([row("lm_head")]) == ""


def test_what_is_no_number_and_hostile_names_do_no_harm() -> None:
    html = layers.strips([row('model.layers.0.<script>"x', math.nan), row("model.layers.1.up", math.inf)])
    assert "<script" not in html and "nan" not in html.lower().replace("not a number", "")
