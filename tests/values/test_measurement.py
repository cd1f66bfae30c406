"""A measurement is a record in JSON, whatever is known of it."""

import json
import math
from dataclasses import fields

from explorer.measure.size import footprint
from explorer.values.footprint import Cost
from explorer.values.measurement import Measurement
from explorer.values.performance import Speed
from explorer.values.quality import Quality, Slice
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from tests.values.test_quality import quality_of, reading


def test_a_measurement_becomes_json_with_every_part_that_is_known(timed: Speed) -> None:
    size = footprint(100, 50, 400, 100, "measured", {"mlp": 60}, resident=200, notes=["a note"])
    cost = Cost(flops_per_token=reading(10, "calculated"), useful_flops_per_token=reading(5, "calculated"))
    bare = Measurement(recipe=Recipe(bits=4), model="m", size=size, cost=cost)
    record = json.loads(json.dumps(bare.to_dict()))
    assert record["speed"] is None and record["quality"] is None
    assert Recipe.from_dict(record["recipe"]) == Recipe(bits=4)
    assert record["size"]["compression_ratio"] == 4
    assert (record["size"]["file_bytes"], record["size"]["resident_bytes"]) == (100, 200)

    quality = quality_of(kl=Reading(value=0.1, unit="nats", how="measured", low=0.05, high=0.2, se=0.03, n=7))
    full = Measurement(recipe=Recipe(), model="m", size=size, cost=cost, speed=timed, quality=quality).to_dict()
    assert set(full["speed"]) == {field.name for field in fields(Speed)} | {"busy"}
    assert set(full["quality"]) >= {field.name for field in fields(Quality)}
    assert set(full["quality"]) >= {"kl_se", "kl_low", "kl_high", "ln_ppl_ratio_se", "top1_se", "verdict"}
    assert (full["quality"]["kl_se"], full["quality"]["kl_low"]) == (0.03, 0.05)
    assert full["quality"]["by_kind"]["code"]["lost"] == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 1}
    assert full["speed"]["ms_per_token"] == {"median": 2, "low": 2, "high": 2, "n": 1}


def test_a_destroyed_model_still_has_a_record_that_is_json() -> None:
    size = footprint(100, 50, 400, 100, "measured", {})
    cost = Cost(flops_per_token=reading(10), useful_flops_per_token=reading(5))
    nothing = reading(math.nan)
    some = Slice(kind="code", kl=nothing, top1_agreement=nothing, lost=nothing, gained=nothing)
    quality = quality_of(perplexity=nothing, kl=nothing, tokens=0, broken_positions=9, by_kind=(some,))
    json.dumps(
        Measurement(recipe=Recipe(), model="m", size=size, cost=cost, quality=quality).to_dict(), allow_nan=False
    )
