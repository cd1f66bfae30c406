"""Readings → pictures: plotly's JSON, with the table of the same Readings behind a switch and buttons that save it
(assets/pictures.js). One style; colours are names of the style sheet's, so the page's theme is theirs. The only file
that knows plotly; no gradio."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import plotly

from explorer import assets
from explorer.ui.words import words
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.units import plain

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
MOST_TOLD = 24  # numbers in the sentence for who does not see a picture
LONGEST = 110  # characters of a setting that fit into a margin


@dataclass(frozen=True, kw_only=True)
class About:
    """What a picture is of, for its margin."""

    model: str
    setting: str

    @classmethod
    def of(cls, name: str, recipe: Recipe) -> "About":
        """The model by the last part of its name."""
        return cls(model=name.rstrip("/").rpartition("/")[2], setting=recipe.words())


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Traces and layout as plotly names them; `told` is every number in it under its name, for the badges and for who
    does not see it. Pixels high."""

    name: str
    title: str
    note: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    told: Sequence[tuple[str, Reading]]
    height: int

    @property
    def says(self) -> str:
        """The picture in one sentence."""
        if not self.told:
            return f"{self.title}. {self.note}"
        some = self.told
        if len(some) > MOST_TOLD:
            ordered = sorted((row for row in some if row[1].value == row[1].value), key=lambda row: row[1].value)
            some = [ordered[0], ordered[-1]] if ordered else []
        told = "; ".join(f"{name} {plain(each, each.value)}" for name, each in some)
        return str(words("markup")["few" if some is self.told else "many"]).format(title=self.title, told=told)

    @property
    def hows(self) -> list[str]:
        """How its numbers were obtained."""
        return list(dict.fromkeys(reading.how for _, reading in self.told))


def script() -> str:
    """What draws pictures in the browser."""
    return assets.read("pictures.js").replace("PLOTLY", f"gradio_api/file={PLOTLY}")


def shown(picture: Picture, about: About, table: str, compact: bool = False) -> str:
    """The picture, and its table, which is HTML already; `compact`: without its title and what it is about."""
    setting = about.setting if len(about.setting) <= LONGEST else about.setting[:LONGEST] + "…"
    margin = [about.model, setting, time.strftime("%Y-%m-%d"), ", ".join(picture.hows)]
    figure = {"data": picture.data, "layout": LAYOUT | dict(picture.layout)}
    written = {
        "name": picture.title,
        "note": picture.note,
        "says": picture.says,
        "about": setting,
        "hows": " ".join(picture.hows),
        "margin": " · ".join(filter(None, margin)),
        "file": picture.name,
        "figure": json.dumps(sound(figure), separators=(",", ":")),
        "style": f"--height:{picture.height}px",
    }
    attributes = " ".join(f'{name}="{escape(word)}"' for name, word in written.items())
    return f"<size-picture {attributes}{' compact' * compact}>{table}</size-picture>"


LAYOUT: dict[str, Any] = {
    "margin": {"l": 8, "r": 16, "t": 8, "b": 40},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "IBM Plex Sans, sans-serif", "size": 12},
    "showlegend": False,
}


def sound(value: Any) -> Any:
    """JSON knows no NaN and no infinity: None in their place, at any depth."""
    if isinstance(value, Mapping):
        return {name: sound(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [sound(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
