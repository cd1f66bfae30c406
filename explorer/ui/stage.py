"""What panels share while the page is put together: the desk, the controls, the parts that follow a setting, and the
kinds of arrows. An arrow is drawn once all parts are there, whatever the order in which panels were placed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import gradio as gr

from explorer.ui import markup
from explorer.ui.asks import Controls
from explorer.ui.desk import STOPPED, Desk
from explorer.ui.listeners import LISTENERS
from explorer.ui.view import View
from explorer.ui.words import Words

Draw = Callable[[View], str | None]
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "preprocess": False}
OWN: dict[str, Any] = {"api_visibility": "undocumented"}  # of the page's own arrows; what others ask is in `endpoints`
HEAVY: dict[str, Any] = {
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "show_progress": "hidden",
    "preprocess": False,
}


class Stage:
    """One page; `alone` where it is served to this computer only."""

    def __init__(self, page: gr.Blocks, desk: Desk, alone: bool, models: Sequence[str] | None = None) -> None:
        """`models`: the only names that may be opened; None: any."""
        self.page, self.desk, self.alone, self.models = page, desk, alone, models
        self.recipe, self.prompt = list[Any](), list[Any]()  # controls, in the order of `Controls`
        self.tab: gr.Tab  # the one in which panels are placed
        self.status = html("", elem_id="status", render=False)
        self._parts: list[tuple[gr.HTML, Draw]] = []
        self._first: list[tuple[gr.HTML, Draw]] = []
        self._arrows: list[Callable[[], None]] = []
        self._answers: list[gr.HTML] = []
        self._stops: dict[str, float] = {}  # when each visit last asked for one

    @property
    def controls(self) -> list[Any]:
        return [*self.recipe, *self.prompt]

    @property
    def parts(self) -> list[gr.HTML]:
        return [part for part, _ in self._parts]

    def control(self, name: str) -> Any:
        """One control of the recipe."""
        return self.recipe[Controls._fields.index(name)]

    # what a panel says of itself

    def follow(self, part: gr.HTML, draw: Draw) -> None:
        """A part that is drawn from every view; `draw` gives None where nothing changed."""
        self._parts.append((part, draw))

    def first(self, part: gr.HTML, draw: Draw) -> None:
        """A part that is drawn once a visit, when the model is there."""
        self._first.append((part, draw))

    def answer(self, name: str) -> gr.HTML:
        """Where a question's answer goes: below all questions, so that a table that arrives moves no control."""
        self._answers.append(html("", elem_id=name, render=False))
        return self._answers[-1]

    def place_answers(self) -> None:
        """Where the answers stand that were asked for so far."""
        for part in self._answers:
            part.render()
        self._answers.clear()

    def later(self, arrows: Callable[[], None]) -> None:
        """Draw these arrows once all parts are there."""
        self._arrows.append(arrows)

    def connect(self) -> None:
        """Draw all arrows; those of the visit's beginning and end first."""
        opening = [*self.recipe, *(part for part, _ in self._first), *self.parts]
        how: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 16, "api_visibility": "private"}
        self.opened = self.page.load(self._start, None, opening, **how)
        self.run(self.opened.then)
        self.page.unload(self._leave)
        self._keep_what_is_typed()
        for arrows in self._arrows:
            arrows()

    # the kinds of arrows

    def run(self, trigger: Any, moved: bool = False, name: str = "", js: str | None = None) -> Any:
        """Real weights, texts and figures of the setting, into all parts; `moved`: a slider came to rest."""

        def live(request: gr.Request, *values: Any) -> Iterator[Any]:
            yield from map(self.drawn, self.desk.live(Controls(*values), session_of(request), moved=moved))

        named: dict[str, Any] = {"api_name": name, **OWN} if name else {"api_visibility": "private"}
        return on(trigger)(
            self.until_stop(live), self.controls, self.parts, trigger_mode="always_last", js=js, **named, **HEAVY
        )

    def preview(self, trigger: Any, **named: Any) -> Any:
        """What arithmetic gives for the setting, into all parts."""

        def previewed(request: gr.Request, *values: Any) -> Any:
            return self.drawn(self.desk.preview(Controls(*values), session_of(request)))

        return on(trigger)(previewed, self.controls, self.parts, **named, **QUICK)

    def refresh(self, trigger: Any) -> Any:
        """What has become known of the settings tried, into all parts."""

        def refreshed(*values: Any) -> Any:
            return self.drawn(self.desk.refresh(Controls(*values)))

        return on(trigger)(refreshed, self.controls, self.parts, api_visibility="private", **QUICK)

    def study(
        self, trigger: Any, find: Any, answer: gr.HTML, name: str, more: Sequence[Any] = (), visit: bool = False
    ) -> Any:
        """`find(ask, *more)` tells (HTML, status line) as it comes, into `answer` and the status line; `visit`: it
        takes the visit's name behind the ask. What is typed into `more` while an answer is under way counts too."""
        mode = "multiple" if more else "once"

        def streamed(request: gr.Request, *values: Any) -> Iterator[Any]:
            count, session = len(Controls._fields), session_of(request)
            extra = [*[session] * visit, *values[count:]]
            for found, line in self.desk.study(Controls(*values[:count]), session, lambda ask: find(ask, *extra)):
                yield [skip(found), skip(line and markup.status(line))]

        outputs, work = [answer, self.status], self.until_stop(streamed)
        return on(trigger)(work, [*self.controls, *more], outputs, api_name=name, trigger_mode=mode, **OWN, **HEAVY)

    def question(self, words: Words, find: Any, ids: tuple[str, str], name: str) -> None:
        """A hint, a button and a place for the answer, with these ids; the button asks for the study `find`."""
        html(markup.paragraph(words["hint"]))
        button, answer = gr.Button(words["button"], size="sm", scale=0, elem_id=ids[0]), self.answer(ids[1])
        self.later(lambda: self.study(button.click, find, answer, name))

    def scene(self, trigger: Any, work: Any, **named: Any) -> Any:
        """`work(controls, session)` tells (values of the recipe's controls or None, view)."""

        def staged(request: gr.Request, *values: Any) -> Iterator[Any]:
            for knobs, view in work(Controls(*values), session_of(request)):
                yield [*(knobs or [gr.skip()] * len(self.recipe)), *self.drawn(view)]

        outputs = [*self.recipe, *self.parts]
        return on(trigger)(self.until_stop(staged), self.controls, outputs, **named, **HEAVY)

    def drawn(self, view: View) -> list[Any]:
        """Each part as this view changes it."""
        return [skip(draw(view)) for _, draw in self._parts]

    def halt(self, request: gr.Request) -> list[Any]:
        """Ends what the visit asked for before this."""
        self._stops[session_of(request)] = request.state.asked
        return self.drawn(self.desk.stop(session_of(request)))

    def until_stop(self, work: Any) -> Any:
        """`work`, which a Stop ends that came after it was asked for, be it only in gradio's queue so far, and which
        ends where nobody listens any more."""

        def run(request: gr.Request, *values: Any) -> Iterator[Any]:
            for found in () if self.stopped(request) else work(request, *values):
                if unheard(request):
                    self.desk.visits.leave(session_of(request))
                    return
                yield found
            # said again: what was on its way to the page may have come after Stop's own answer
            if self.stopped(request):
                yield {self.status: markup.status(STOPPED)}

        return run

    def stopped(self, request: gr.Request) -> bool:
        """Whether the visit stopped after it asked for this."""
        return float(request.state.asked) < self._stops.get(session_of(request), 0.0)

    def _start(self, request: gr.Request) -> Iterator[Any]:
        for values, view in self.desk.start(dict(request.query_params)):
            yield [*map(skip, values), *(skip(draw(view)) for _, draw in self._first), *self.drawn(view)]

    def _keep_what_is_typed(self) -> None:
        """Gradio sets what is behind a door once more some frames after the door opens, over what was typed by then,
        but not what it was told can be seen."""
        typed = [block for block in self.page.blocks.values() if isinstance(block, gr.components.FormComponent)]
        told = f"() => Array({len(typed)}).fill({{__type__: 'update', visible: true}})"
        self.page.load(None, None, typed, js=told, api_visibility="private")

    def _leave(self, request: gr.Request) -> None:
        self.desk.visits.leave(session_of(request))
        self._stops.pop(session_of(request), None)


def html(value: str, **options: Any) -> gr.HTML:
    """A part of the page that a panel draws itself."""
    return gr.HTML(value, apply_default_css=False, **options)


def typed_list(names: list[str], **options: Any) -> gr.Dropdown:
    """A list that may be typed into. What is typed counts when the field is left; handlers say what is no name."""
    return gr.Dropdown(names, allow_custom_value=True, **options)


def on(trigger: Any) -> Callable[..., Any]:
    """How an arrow from one trigger, or from several, is drawn."""
    return (lambda *parts, **named: gr.on(trigger, *parts, **named)) if isinstance(trigger, Iterable) else trigger


def skip(part: Any) -> Any:
    """Gradio's word for no change."""
    return gr.skip() if part is None else part


def unheard(request: gr.Request) -> bool:
    """Whether whoever asked this over the page's own queue has no stream open for the answer."""
    queued = str(request.url.path).endswith("/queue/join")
    return queued and LISTENERS.silent(session_of(request), float(request.state.asked))


def session_of(request: gr.Request) -> str:
    """The name of a visit."""
    return str(request.session_hash)
