"""What a report says, as values that any format can draw: lines of words and Readings, tables, pictures, texts.
Everything is taken from one session; what is calculated beside it says so."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from string import Formatter
from typing import Any

from explorer.formats import charts
from explorer.studies.session import Session
from explorer.takes import catalogue
from explorer.takes.requirements import BITS, Costs, Takes, default_prices, what_it_takes
from explorer.values.measurement import Measurement
from explorer.values.performance import verdict
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.units import plain
from explorer.values.written import Pair

Piece = str | Reading
Line = tuple[Piece, ...]
Cell = Piece | Line | None
CLOSE = 0.05  # nats: up to here the page calls a setting close to the original
CONTEXT = 2048  # tokens, of what is calculated for a month
LARGE = "tiiuae/falcon-180B"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns, rows, and which row is the one that the report is about; a cell is None where nothing was measured."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    marked: int | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part: a heading, lines, then what it shows."""

    name: str
    title: str
    lines: tuple[Line, ...] = ()
    picture: str = ""  # SVG
    table: Table | None = None
    texts: tuple[Pair, ...] = ()
    notes: tuple[Line, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole, in the order in which it is read."""

    title: str
    subtitle: str
    question: str
    answer: tuple[Line, Line, Line]
    sections: tuple[Section, ...]


def chosen(rows: Sequence[Measurement], wanted: Recipe | None) -> Measurement:
    """The setting a report is about: the one that is wanted, else the smallest that is close to the original, else the
    one that is closest. ValueError, one sentence, where it was not measured."""
    known = [row for row in rows if row.quality and row.recipe != Recipe()]
    if wanted is not None:
        known = [row for row in known if row.recipe == wanted]
    if not known:
        what = "No setting" if wanted is None else f"The setting {wanted.words()}"
        raise ValueError(f"{what} of this session was compared with the original, so there is nothing to report.")
    near = [row for row in known if _kl(row) <= CLOSE]
    return min(near, key=lambda row: row.size.file_bytes.value) if near else min(known, key=_kl)


def contents(session: Session, wanted: Recipe | None, words: Mapping[str, Any], against: str = LARGE) -> Report:
    """The report on one setting of a session. `against`: a model of the catalogue whose month is set beside; `words`:
    the sentences. ValueError as for `chosen`, and where the catalogue lacks the model."""
    row = chosen(session.rows, wanted)
    rows = [each for each in session.rows if each.model == row.model]
    short = row.model.rstrip("/").rpartition("/")[2]
    made = _Sections(session, rows, row, words, short, wanted is not None)
    sections = (
        made.plane(),
        made.texts(),
        made.breaks(),
        made.month(against),
        made.origin(),
        made.method(),
        made.limits(),
    )
    return Report(
        title=words["title"].format(model=short),
        subtitle=row.recipe.words(),
        question=words["question"].format(model=short),
        answer=made.answer(),
        sections=sections,
    )


def line(sentence: str, **values: Piece | int) -> Line:
    """A sentence with its places filled; a Reading stays one."""
    pieces: list[Piece] = []
    for words, name, *_ in Formatter().parse(sentence):
        pieces += [words] if words else []
        if name is not None:
            value = values[name]
            pieces.append(value if isinstance(value, str | Reading) else f"{value:,}")
    return tuple(pieces)


@dataclass(frozen=True)
class _Sections:
    session: Session
    rows: Sequence[Measurement]
    row: Measurement
    words: Mapping[str, Any]
    short: str
    asked: bool  # for this very setting

    def answer(self) -> tuple[Line, Line, Line]:
        """How small, how far from the original, how fast."""
        said, row = self.words["answer"], self.row
        assert row.quality
        level = next(word for end, word in said["levels"] if not _kl(row) > end)
        what = "broken" if row.quality.broken_positions else row.quality.verdict
        quality = line(
            said["quality"].get(what, said["quality"]["told"]),
            level=level,
            top1=row.quality.top1_agreement,
            kl=row.quality.kl,
            broken=row.quality.broken_positions,
        )
        size = line(
            said["size"],
            words=row.recipe.words(),
            model=self.short,
            size=row.size.file_bytes,
            before=self._original_bytes(),
            ratio=row.size.compression_ratio,
        )
        if not row.speed or not row.speed.decode_ratio:
            return size, quality, line(said["untimed"])
        ratio = row.speed.decode_ratio
        ends = {name: plain(ratio, end) for name, end in (("low", ratio.low), ("high", ratio.high)) if end is not None}
        how = verdict(ratio) if len(ends) == 2 else "once"
        return size, quality, line(said[how], ms=row.speed.ms_per_token, ratio=ratio, **ends)

    def plane(self) -> Section:
        """Every setting that was tried: size against perplexity, and their figures."""
        said, numbers = self.words["plane"], self._numbered()
        points = [
            charts.Point(
                name=str(number),
                x=each.size.file_bytes.value / 1e6,
                y=each.quality.ppl_ratio.value,
                kind="chosen" if each is self.row else "tried",
            )
            for number, each in numbers.items()
            if each.quality
        ]
        points.append(charts.Point(name=said["original"], x=self._original_bytes().value / 1e6, y=1.0, kind="original"))
        rows = [("", said["original"], *_figures(each)[:-1], "–") for each in self.rows if each.recipe == Recipe()]
        rows += [(str(number), each.recipe.words(), *_figures(each)) for number, each in numbers.items()]
        here = len(rows) - len(numbers) + [*numbers.values()].index(self.row)
        how = said[
            "only" if len(numbers) == 1 else "asked" if self.asked else "near" if _kl(self.row) <= CLOSE else "far"
        ]
        return Section(
            name="plane",
            title=said["title"],
            lines=(line(said["note"], count=len(numbers)),),
            picture=charts.plane(points, said["picture"], said["x"], said["y"], said["kinds"]),
            table=Table(columns=tuple(said["columns"]), rows=tuple(rows), marked=here),
            notes=(line(how, words=self.row.recipe.words(), close=f"{CLOSE:g}"), line(said["intervals"])),
        )

    def texts(self) -> Section:
        """What both wrote."""
        said = self.words["texts"]
        told = said["note"] if self.row.texts else said["none"]
        return Section(name="texts", title=said["title"], lines=(line(told),), texts=self.row.texts)

    def breaks(self) -> Section:
        """Kinds of text, the most damaged first."""
        said = self.words["breaks"]
        assert self.row.quality
        kinds = self.row.quality.by_kind
        names = [said["kinds"].get(part.kind, part.kind) for part in kinds]
        bars = [charts.Bar(name=name, reading=part.kl) for name, part in zip(names, kinds, strict=True)]
        rows = [
            (name, part.kl, part.top1_agreement, part.lost, part.gained)
            for name, part in zip(names, kinds, strict=True)
        ]
        told = "one" if len(kinds) < 2 else "clear" if _apart(kinds[0].kl, kinds[-1].kl) else "unclear"
        return Section(
            name="breaks",
            title=said["title"],
            lines=(line(said[told], first=names[0] if names else "", last=names[-1] if names else ""),),
            picture=charts.bars(bars, said["picture"], said["x"]) if bars else "",
            table=Table(columns=tuple(said["columns"]), rows=tuple(rows)) if rows else None,
            notes=(line(said["legend"]),),
        )

    def month(self, against: str) -> Section:
        """A large model, this one, and this one at the setting's bits, by arithmetic."""
        said, large = self.words["month"], catalogue.find(against)
        if large is None:
            raise ValueError(f"{against[:80]} is not in the catalogue.")
        entry = catalogue.find(self.row.model.removesuffix("-Instruct"))
        own = self.session.architecture or (entry.architecture if entry else None)
        if own is None:
            return Section(name="month", title=said["title"], lines=(line(said["unknown"]),))
        bits = min(width for width in BITS if width >= self.row.recipe.bits)
        asked = [(large.short, large.architecture, 16), (self.short, own, 16), (self.short, own, bits)]
        found = {
            said["column"].format(model=name, bits=width): what_it_takes(name, each, context=CONTEXT, bits=width)
            for name, each, width in asked
        }
        five = [field.name for field in fields(Costs)]
        stacks = [
            charts.Stack(name=name, parts=tuple(getattr(costs, part) for part in five), total=costs.total)
            for name, costs in ((name, takes.best.costs) for name, takes in found.items())
        ]
        figures: dict[str, Callable[[Takes], Reading]] = {
            "total": lambda takes: takes.best.costs.total,
            **{part: lambda takes, part=part: getattr(takes.best.costs, part) for part in five},  # type: ignore[misc]
            "usd": lambda takes: takes.best.all_usd_per_million,
            "kwh": lambda takes: takes.best.kwh_per_million,
            "co2": lambda takes: takes.co2_g_per_million,
            "weights": lambda takes: takes.weights[takes.bits],
        }
        rows = [(said["rows"][name], *map(of, found.values())) for name, of in figures.items()]
        gpus = (said["gpus"], *((takes.best.count, f" {takes.best.gpu.name}") for takes in found.values()))
        return Section(
            name="month",
            title=said["title"],
            lines=(line(said["note"], context=CONTEXT, traffic=f"{default_prices().million_tokens_per_month:,.0f}"),),
            picture=charts.stacks(stacks, [said["rows"][part] for part in five], said["picture"], said["x"]),
            table=Table(columns=(said["corner"], *found), rows=(gpus, *rows), marked=None),
            notes=(line(said["limits"], words=self.row.recipe.words(), bits=bits),),
        )

    def origin(self) -> Section:
        """What was measured, what calculated, and what estimated."""
        said = self.words["origin"]
        rows = tuple((said["names"][how], what) for how, what in said["what"].items())
        return Section(name="origin", title=said["title"], table=Table(columns=tuple(said["columns"]), rows=rows))

    def method(self) -> Section:
        """How, on which machine, on which texts; and what to type to measure it again."""
        said, about, row = self.words["method"], self.session.about, self.row
        assert row.quality
        rows = [(said["model"], row.model), *self._machine()]
        rows.append((said["tokens"], f"{row.quality.tokens + row.quality.broken_positions:,}"))
        if row.speed:
            kernel = said["timed_by"].format(kernel=row.speed.kernel, loop=row.speed.loop, dtype=row.speed.dtype)
            rows += [(said["kernel"], kernel), (said["prompt"], f"{row.speed.prompt_tokens:,} × {row.speed.batch}")]
        rows.append((said["texts"], _counts(about.get("texts"))))
        rows.append((said["command"], self.session.commands.get(row.recipe) or "–"))
        return Section(
            name="method",
            title=said["title"],
            lines=tuple(line(each) for each in said["lines"]),
            table=Table(columns=tuple(said["columns"]), rows=tuple(rows)),
        )

    def limits(self) -> Section:
        """What these figures do not say."""
        said, row = self.words["limits"], self.row
        assert row.quality
        found = [line(each) for each in said["always"]]
        floor = row.quality.noise_floor
        found += [line(said["floor"], floor=floor)] if floor else [line(said["no_floor"])]
        found += [line(said["busy"])] if row.speed and row.speed.busy else []
        found += [line("{note}", note=note) for note in row.size.notes]
        return Section(name="limits", title=said["title"], notes=tuple(found))

    def _machine(self) -> Iterator[tuple[str, str]]:
        said, about = self.words["method"]["machine"], self.session.about
        memory = about.get("memory_bytes")
        if isinstance(memory, int | float):
            about = {**about, "memory_bytes": f"{memory / 2**30:.1f} GiB"}
        versions = about.get("versions")
        if isinstance(versions, Mapping):
            about = {**about, "versions": ", ".join(f"{name} {number}" for name, number in versions.items())}
        yield from ((name, str(about[key])[:300]) for key, name in said.items() if about.get(key))

    def _numbered(self) -> dict[int, Measurement]:
        """The settings that were tried, largest first, as picture and table number them."""
        some = [row for row in self.rows if row.recipe != Recipe()]
        return dict(enumerate(sorted(some, key=lambda row: -row.size.file_bytes.value), 1))

    def _original_bytes(self) -> Reading:
        """Of the original's own row; else by the ratio that was found against it, which is exact."""
        known = next((each.size.file_bytes for each in self.rows if each.recipe == Recipe()), None)
        size = self.row.size
        return known or replace(
            size.file_bytes, value=round(size.file_bytes.value * size.compression_ratio.value), how="calculated"
        )


def _counts(texts: object) -> str:
    """Kinds of text, with the passages of each."""
    return ", ".join(f"{name} {count}" for name, count in texts.items()) if isinstance(texts, Mapping) else "–"


def _kl(row: Measurement) -> float:
    value = row.quality.kl.value if row.quality else float("inf")
    return value if value == value else float("inf")


def _figures(row: Measurement) -> tuple[Cell, ...]:
    speed, quality = row.speed, row.quality
    return (
        row.size.file_bytes,
        quality.kl if quality else None,
        quality.top1_agreement if quality else None,
        quality.perplexity if quality else None,
        speed.ms_per_token if speed else None,
        speed.decode_ratio if speed else None,
    )


def _apart(larger: Reading, smaller: Reading) -> bool:
    """Whether their intervals do not meet."""
    return larger.low is not None and smaller.high is not None and larger.low > smaller.high
