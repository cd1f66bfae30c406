"""The record of one matrix."""

import json
import math

from explorer.values.matrices import LayerReading
from explorer.values.reading import Reading


def test_a_matrix_becomes_json_even_where_a_figure_is_no_number() -> None:
    def reading(value: float) -> Reading:
        return Reading(value=value, unit="share", how="measured")

    figures = {name: reading(0.5) for name in ("zeros", "kept", "file_bytes", "output_error")}
    row = LayerReading(name="m", kind="mlp", shape=(8, 4), rank=None, bits=4, kl=reading(math.nan), **figures)
    record = json.loads(json.dumps(row.to_dict(), allow_nan=False))
    assert (record["shape"], record["zeros"], record["kl"], record["rank"]) == ([8, 4], 0.5, None, None)
