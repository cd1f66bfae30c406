"""Numbers are told in the unit that people read."""

import pytest

from explorer.values.reading import Reading
from explorer.values.units import plain


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (72_560_000, "bytes", "72.6 MB"),
        (2.5e9, "bytes", "2.50 GB"),
        (0.689, "share", "68.9 %"),
        (float("nan"), "ms", "not a number"),
        (5e7, "", "5.0e+07"),
        (0.00489, "nats", "0.0049"),
        (12.345, "J", "12.3 J"),
        (12.345, "kWh", "12.3 kWh"),
        (1234.5, "g", "1,234 g"),
    ],
)
def test_units_are_what_people_read(value: float, unit: str, text: str) -> None:
    assert plain(Reading(value=value, unit=unit, how="measured"), value) == text
