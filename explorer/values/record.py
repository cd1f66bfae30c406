"""Records that were printed or saved → Measurements. They come from files, so every value is looked at: ValueError, one
sentence, names the first that cannot be. Null is not a number in a figure, and not measured elsewhere. Answers to the
easy questions are not read back."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar, overload

from explorer.values.footprint import Cost, Footprint
from explorer.values.measurement import Measurement
from explorer.values.performance import Speed
from explorer.values.quality import Quality, Slice
from explorer.values.reading import How, Reading
from explorer.values.recipe import Recipe
from explorer.values.written import Pair

T = TypeVar("T")
LONGEST = 100_000  # characters of one text
MOST = 4096  # entries of a list
UNITS = {
    **dict.fromkeys(("kl", "kl_median", "kl_90", "kl_99", "kl_99_9", "kl_max", "ln_ppl_ratio"), "nats"),
    **dict.fromkeys(("top1_agreement", "delta_p_mean", "delta_p_rms"), "share"),
    **dict.fromkeys(("perplexity", "perplexity_original", "ppl_correlation"), ""),
    "ppl_ratio": "×",
}


class Part:
    """One object of a record; `name` is its path, for the sentence of a refusal."""

    def __init__(self, values: object, name: str) -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"{name} must be an object in a session or a record.")
        self.values, self.name = values, name

    def part(self, name: str) -> "Part":
        return Part(self.values.get(name), f"{self.name}.{name}")

    def maybe(self, name: str, make: Callable[["Part"], T]) -> T | None:
        """What `make` makes of a part; None where it was not measured."""
        return None if self.values.get(name) is None else make(self.part(name))

    def text(self, name: str, default: str | None = None) -> str:
        value = self.values.get(name, default)
        if not isinstance(value, str) or len(value) > LONGEST:
            raise ValueError(f"{self.name}.{name} must be a text.")
        return value

    @overload
    def number(self, name: str, needed: Literal[True] = True) -> float: ...
    @overload
    def number(self, name: str, needed: bool) -> float | None: ...
    def number(self, name: str, needed: bool = True) -> float | None:
        value = self.values.get(name)
        if value is None and not needed:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
            raise ValueError(f"{self.name}.{name} must be a number.")
        return value

    def count(self, name: str) -> int:
        value = self.number(name)
        if value != int(value) or value < 0:
            raise ValueError(f"{self.name}.{name} must be a whole number.")
        return int(value)

    def several(self, name: str) -> Sequence[object]:
        value = self.values.get(name, [])
        if not isinstance(value, list) or len(value) > MOST:
            raise ValueError(f"{self.name}.{name} must be a list of at most {MOST}.")
        return value

    def reading(self, name: str, unit: str, how: How = "measured", key: str = "value") -> Reading:
        """From an object of a value (`key`), ends and n."""
        found = self.part(name)
        n = found.number("n", False)
        value = found.number(key, False)
        return Reading(
            value=math.nan if value is None else value,
            unit=unit,
            how=how,
            low=found.number("low", False),
            high=found.number("high", False),
            n=None if n is None else int(n),
        )

    def plain(self, name: str, unit: str, how: How = "measured", n: int | None = None) -> Reading:
        """From a bare number; one that is needed for everything else."""
        return Reading(value=self.number(name), unit=unit, how=how, n=n)


def measurement(record: object) -> Measurement:
    """What `Measurement.to_dict` was made from; intervals of perplexities, seconds and questions are left out."""
    whole = Part(record, "record")
    recipe = whole.values.get("recipe")
    if not isinstance(recipe, Mapping):
        raise ValueError("record.recipe must be an object.")
    cost = whole.part("cost")
    return Measurement(
        recipe=Recipe.from_dict(recipe),
        model=whole.text("model"),
        size=_size(whole.part("size")),
        cost=Cost(**{n: cost.plain(n, "FLOP", "calculated") for n in ("flops_per_token", "useful_flops_per_token")}),
        speed=whole.maybe("speed", _speed),
        quality=whole.maybe("quality", _quality),
        texts=tuple(_pair(Part(each, "record.texts")) for each in whole.several("texts")),
    )


def _size(size: Part) -> Footprint:
    active = {"active_parameters": "weights", "active_bytes": "bytes"}
    rest = {n: size.plain(n, unit, "calculated") for n, unit in active.items() if size.values.get(n) is not None}
    if size.values.get("resident_bytes") is not None:
        rest["resident_bytes"] = size.plain("resident_bytes", "bytes")
    parts = size.part("parts")
    return Footprint(
        file_bytes=size.plain("file_bytes", "bytes"),
        parameters=size.plain("parameters", "weights"),
        compression_ratio=size.plain("compression_ratio", "×"),
        predicted_bytes=size.plain("predicted_bytes", "bytes", "calculated"),
        parts={str(name): parts.count(name) for name in parts.values},
        notes=tuple(str(note)[:LONGEST] for note in size.several("notes")),
        **rest,
    )


def _speed(speed: Part) -> Speed:
    known = [name for name in ("prefill_ratio", "decode_ratio") if speed.values.get(name) is not None]
    return Speed(
        prefill_ms=speed.reading("prefill_ms", "ms", key="median"),
        ms_per_token=speed.reading("ms_per_token", "ms", key="median"),
        tokens_per_second=speed.reading("tokens_per_second", "tokens/s", key="median"),
        kernel=speed.text("kernel"),
        loop=speed.text("loop"),
        prompt_tokens=speed.count("prompt_tokens"),
        threads=speed.count("threads"),
        batch=speed.count("batch"),
        dtype=speed.text("dtype", ""),
        processor=speed.text("processor", ""),
        **{name: speed.reading(name, "×") for name in known},
    )


def _quality(quality: Part) -> Quality:
    tokens, broken, kinds = quality.count("tokens"), quality.count("broken_positions"), quality.part("by_kind")
    positions, floor = tokens + broken, quality.number("noise_floor", False)
    long = quality.number("tokens_original", False)

    def figure(name: str, low: str = "", high: str = "", se: str = "") -> Reading:
        value = quality.number(name, False)
        ends = {key: quality.number(n, False) for key, n in (("low", low), ("high", high), ("se", se)) if n}
        how: How = "estimated" if name == "perplexity" and long not in (None, positions) else "measured"
        n = int(long) if name == "perplexity_original" and long is not None else positions
        return Reading(value=math.nan if value is None else value, unit=UNITS[name], how=how, n=n, **ends)  # type: ignore[arg-type]

    named = {"kl": ("kl_low", "kl_high", "kl_se"), "ln_ppl_ratio": ("", "", "ln_ppl_ratio_se")}
    named["top1_agreement"] = ("", "", "top1_se")
    return Quality(
        **{name: figure(name, *named.get(name, ())) for name in UNITS},
        tokens=tokens,
        broken_positions=broken,
        noise_floor=None if floor is None else Reading(value=floor, unit="nats", how="simulated"),
        by_kind=tuple(_slice(str(kind), kinds.part(kind)) for kind in kinds.values),
    )


def _slice(kind: str, part: Part) -> Slice:
    shares = {name: part.reading(name, "share") for name in ("top1_agreement", "lost", "gained")}
    return Slice(kind=kind, kl=part.reading("kl", "nats"), **shares)


def _pair(pair: Part) -> Pair:
    return Pair(prompt=pair.text("prompt"), original=pair.text("original"), compressed=pair.text("compressed"))
