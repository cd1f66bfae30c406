"""Another model for all who look: fetched and opened beside the one that is there, which can be used meanwhile."""

import threading
import time
from collections.abc import Iterator, Sequence

from explorer.model import exporting, library, places
from explorer.model.preflight import ModelRejected
from explorer.studies.outlook import fitting
from explorer.ui.desk import Desk
from explorer.ui.words import words
from explorer.workbench.workbench import Workbench

WORDS = words("model")
LOOK_SECONDS = 0.3
LONGEST_NAME = 1000


class Switch:
    """Of one desk. `coming` is told to all who look, `setting` is that of the export which was opened last, for the
    address; `allowed` are the only names, None: any."""

    def __init__(self, desk: Desk, allowed: Sequence[str] | None = None) -> None:
        self.desk, self.allowed = desk, allowed
        self.coming = self.setting = ""
        self._turn = threading.Lock()

    def names(self) -> list[tuple[str, str]]:
        """(what is shown, name): what is on this computer, then what of the catalogue fits into its memory."""
        if self.allowed is not None:
            return [(name, name) for name in self.allowed]
        there = {one.name: WORDS["kinds"][one.kind].format(name=one.name) for one in library.here()}
        far = {
            one.id: WORDS["kinds"]["far"].format(name=one.id, size=f"{2 * one.parameters / 1e9:,.1f}")
            for one in fitting()
        }
        return [(shown, name) for name, shown in {**there, **far, **there}.items()]

    def checked(self, name: object) -> str:
        """A name that may be opened. ValueError in one sentence."""
        wanted = str(name or "").strip()
        if not wanted or len(wanted) > LONGEST_NAME:
            raise ValueError(WORDS["no_name"])
        if self.allowed is not None and wanted not in self.allowed:
            raise ValueError(WORDS["not_allowed"].format(names=", ".join(self.allowed)))
        return wanted

    def open(self, name: object, who: str) -> Iterator[str]:
        """Says how far it is; at the end the desk has the new model, and the old one's memory is given back. Whoever
        stops the iterator ends a download, and what was opened so far is let go. ValueError in one sentence."""
        wanted = self.checked(name)
        if not self._turn.acquire(blocking=False):
            raise ValueError(WORDS["taken"].format(coming=self.coming))
        before = self.desk.bench
        fresh, opened = Workbench(wanted, before.device, engine=before.engine), False
        try:
            self.coming = WORDS["coming"].format(name=wanted, who=who)
            yield self.coming
            place, setting = (yield from places.locate(wanted, fresh.engine.step)), ""
            if exporting.is_export(place.folder):  # its original, with the sliders as its recipe says
                setting = exporting.described(place.folder)[0].to_query()
                fresh.name = exporting.base_of(place.folder)
                place = yield from places.locate(fresh.name, fresh.engine.step)
            fresh.place = place
            yield from _loaded(fresh)
            self.desk.take(fresh, who)
            self.setting, opened = setting, True
        except ModelRejected as rejected:
            raise ValueError(str(rejected)) from None
        finally:
            self.coming = ""
            self._turn.release()
            if not opened:
                threading.Thread(target=fresh.engine.step, args=[fresh.close], name="close", daemon=True).start()
        fresh.work_ahead()
        threading.Thread(target=before.close, name="close", daemon=True).start()


def _loaded(bench: Workbench) -> Iterator[str]:
    """Opens it on a thread of its own, which a caller need not wait for."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            bench.load()
        except BaseException as problem:
            failed.append(problem)

    started, thread = time.monotonic(), threading.Thread(target=work, name="open", daemon=True)
    thread.start()
    while thread.is_alive():
        yield f"{bench.message} {time.monotonic() - started:.0f} s"
        thread.join(LOOK_SECONDS)
    if failed:
        raise failed[0]
