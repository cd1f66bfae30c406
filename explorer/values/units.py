"""A number in the unit that people read, for the page and for reports. Knows no HTML."""

from explorer.values.reading import Reading


def plain(reading: Reading, value: float) -> str:
    """A value in the unit that people read: bytes as MB, counts as millions, shares as per cent."""
    if value != value:
        return "not a number"
    match reading.unit:
        case "bytes":
            return f"{value / 1e6:,.1f} MB" if value < 9.995e8 else f"{value / 1e9:,.2f} GB"
        case "weights":
            return f"{value / 1e6:,.1f} M" if value < 9.995e8 else f"{value / 1e9:,.1f} billion"
        case "USD":
            return f"{value:,.2f} USD" if value < 100 else f"{value:,.0f} USD"
        case "questions" | "count":
            return f"{value:,.0f}"
        case "GPUs":
            return f"{value:,.0f} ×"
        case "kWh" | "kg" | "g" | "hours":
            return f"{value:,.3g} {reading.unit}" if value < 100 else f"{value:,.0f} {reading.unit}"
        case "s":
            return f"{value:,.1f} s" if value < 10 else f"{value:,.0f} s" if value < 120 else f"{value / 60:,.0f} min"
        case "FLOP":
            return f"{value / 1e9:,.3f} G" if value < 1e15 else f"{value:.1e}"
        case "tokens" if value >= 1e9:
            return f"{value / 1e9:,.0f} billion"
        case "share":
            return f"{value:.1%}".replace("%", " %")
        case "×":
            return f"{value:.2f}×"
        case "ms":
            return f"{value:,.2f} ms" if value < 1 else f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"
        case "µs":
            return f"{value:,.0f} µs"
        case "bytes/s":
            return f"{value / 1e9:,.1f} GB/s"
        case "J":
            return f"{value:.3g} J"
        case "nats":
            return f"{value:.4f}" if value < 0.1 else f"{value:,.2f}"
        case "tokens/s":
            return f"{value:,.1f}"
        case _:
            return f"{value:,.2f}" if value < 1e4 else f"{value:.1e}"
