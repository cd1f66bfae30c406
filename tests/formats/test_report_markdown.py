"""Numbers of a report in Markdown."""

from explorer.formats.report_markdown import number
from explorer.values.reading import Reading


def test_a_number_says_how_it_was_obtained_and_where_asked_its_ends() -> None:
    kl = Reading(value=0.0123, unit="nats", how="measured", low=0.01, high=0.02)
    assert number(kl) == "0.0123 (measured)"
    assert number(kl, interval=True) == "0.0123 (measured, 0.0100 to 0.0200)"
    assert number(Reading(value=2, unit="×", how="calculated", low=1), interval=True) == "2.00× (calculated)"
