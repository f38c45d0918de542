"""What happens on the Inspect page: one method an event, each a stream of updates."""

import base64
import contextlib
import html
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

import gradio as gr

from pages.inspect.choice import choice
from pages.inspect.layout import SAME, UNCHANGED, Layout
from pages.inspect.near import near
from pages.inspect.newest import NewestStream
from pages.run.handlers import address, visitor
from pages.services import Services
from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import Episode
from vlm4vla.errors import UserError, surprises_told
from vlm4vla.inspection.bundle import Bundle, completed, started
from vlm4vla.inspection.export import files_of, zipped
from vlm4vla.inspection.kinds import kind_of
from vlm4vla.inspection.offline import offline_page
from vlm4vla.inspection.payload import payload
from vlm4vla.inspection.shelf import Bundles
from vlm4vla.live.branch import BLANK, removable, take_branch
from vlm4vla.live.instruction import suggestions
from vlm4vla.live.session import Finished, Frame, Waiting, borrowed, play
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.suite import NAME, judged_goal, scene_of

Updates = dict[Any, Any]

_PAUSE: Final = 0.8
"""Seconds between two updates while something is being made: each holds all pictures so far."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_turns = itertools.count(time.time_ns() // 1_000_000)
"""From the clock; see `pages.run.live_view.new_turn`."""


@dataclass(frozen=True)
class Handlers:
    """The event handlers of the Inspect page.

    Attributes:
        parts: the page's components.
        services: what the app is built from.
        bundles: where bundles are kept.
        newest: which stream of a page goes on.
    """

    parts: Layout
    services: Services
    bundles: Bundles
    newest: NewestStream = field(default_factory=NewestStream)

    def first_sight(self, request: gr.Request) -> Iterator[Updates]:
        """The page was opened."""
        asked = {name: str(value) for name, value in request.query_params.items()}
        if "run" not in asked:
            listed = choice(self.services.archive, self.services.recordings)
            yield {self.parts.choice: gr.HTML(listed, visible=True), self.parts.status: ""}
            return
        try:
            with surprises_told("The inspection"):
                yield from self._show(asked, request)
        except UserError as error:
            yield self._sorry(error)

    def choose_maps(self, run: str, event: gr.SelectData, request: gr.Request) -> Iterator[Updates]:
        """Another kind of map was chosen.

        Args:
            run: the episode's id.
            event: its value is JSON of the page: `target`, `method`, the `step` it shows, and how
                many `pictures` it has.
            request: whose.
        """
        asked = _plain(event.value)
        kind = kind_of(str(asked.get("target", "")), str(asked.get("method", "")))
        step, has = asked.get("step"), asked.get("pictures")
        try:
            with surprises_told("The map"):
                bundle = started(self._find(run), self.bundles, kind)
                first = step if isinstance(step, int) else None
                has = has if isinstance(has, int) else 0
                # At once, and whatever comes after: of a stream that ends without a word Gradio
                # empties all that it might have written to.
                yield self._viewed(bundle, has=has)
                yield from self._complete(bundle, first, request, has=has)
        except UserError as error:
            yield self._complain(error)

    def branch_off(
        self, run: str, step: float, sentence: str, name: str, change: str, request: gr.Request
    ) -> Iterator[Updates]:
        """A branch was asked for."""
        agent = "" if name == SAME else name
        try:
            with surprises_told("The branch"):
                yield from self._branch(run, step, sentence, agent, change, request)
        except UserError as error:
            yield self._complain(error)

    def hand_over(self, run: str, step: float, request: gr.Request) -> Iterator[Updates]:
        """The expert was asked to take over, with the same sentence."""
        yield from self.branch_off(run, step, "", EXPERT.name, "", request)

    def choose_sentence(self, offered: list[str]) -> str:
        """An offered sentence was pressed."""
        return offered[0]

    def save_zip(self, run: str) -> dict[str, Any]:
        """Everything as one file."""
        return self._saved(run, "zip")

    def save_page(self, run: str) -> dict[str, Any]:
        """One page."""
        return self._saved(run, "html")

    # --- streams -----------------------------------------------------------------------------

    def _show(self, asked: dict[str, str], request: gr.Request) -> Iterator[Updates]:
        episode = self._find(asked["run"])
        kind = kind_of(asked.get("target", ""), asked.get("method", ""))
        bundle = started(episode, self.bundles, kind)
        ghost = started(self._find(asked["ghost"]), self.bundles) if "ghost" in asked else None
        start = _number(asked.get("t", ""))
        scene = scene_of(episode.spec)
        menu = gr.Dropdown([SAME, *self.services.catalogue.names()], value=SAME)
        yield self._viewed(bundle, {"start": start}, ghost) | {
            self.parts.tools: gr.Column(visible=True),
            self.parts.sentence: episode.spec.instruction,
            self.parts.offered: gr.Dataset(samples=_others(episode, scene)),
            self.parts.agent: menu,
            self.parts.change: gr.Dropdown(_changes(episode), value=""),
            self.parts.run: episode.id,
        }
        yield from self._complete(bundle, start, request, {"start": start}, ghost)

    def _complete(
        self,
        bundle: Bundle,
        first: int | None,
        request: gr.Request,
        more: Mapping[str, Any] = _NOTHING,
        ghost: Bundle | None = None,
        has: int = 0,
    ) -> Iterator[Updates]:
        """Makes what a bundle lacks and shows it as it comes, until the page wants another."""
        superseded = self.newest.begin(str(request.session_hash))
        said = time.monotonic()
        # It takes tenths of a second in a large table, so it comes after the episode itself; in
        # every stream, for the one before may be superseded before it sends it.
        listed = str(request.query_params.get("list", ""))
        more = {**more, "near": near(self.services.archive.table, bundle.episode, listed)}
        lend = self._lender(visitor(request), address(request))
        making = completed(bundle, self.bundles, self.services.catalogue, lend, first)
        with contextlib.closing(making):
            for bundle in making:
                if superseded():
                    return
                if time.monotonic() - said > _PAUSE:
                    yield self._viewed(bundle, more, ghost, has)
                    said = time.monotonic()
        # A browser may skip what is followed closely by something else: all of it, once more.
        yield self._viewed(bundle, more, ghost, has) | {self.parts.status: _status("")}

    def _viewed(
        self,
        bundle: Bundle,
        more: Mapping[str, Any] = _NOTHING,
        ghost: Bundle | None = None,
        has: int = 0,
    ) -> Updates:
        value = payload(bundle, ghost) | {"address": "./", "start": None, **more}
        # Pictures that the page has need not be sent again.
        if len(bundle.pictures) <= has:
            value["frames"] = []
        return {self.parts.viewer: value, self.parts.status: _status(_progress(bundle))}

    def _branch(
        self, run: str, step: float, sentence: str, name: str, change: str, request: gr.Request
    ) -> Iterator[Updates]:
        simulators, catalogue, archive, _ = self.services
        parent = self._find(run)
        wanted = take_branch(catalogue, parent, step, sentence, name, change)
        quiet = {self.parts.complaint: gr.HTML(visible=False)}
        yield quiet | {self.parts.status: _status("The branch is getting ready …")}
        playing = play(
            simulators,
            visitor(request),
            wanted.new_agent(),
            wanted.spec,
            archive,
            wanted.told,
            address(request),
            prefix=wanted.prefix,
        )
        with contextlib.closing(playing) as moments:
            for moment in moments:
                if isinstance(moment, Waiting):
                    text = "In the line for a simulator …" if moment.place else "Getting ready …"
                    yield {self.parts.status: _status(text)}
                elif isinstance(moment, Frame):
                    yield {self.parts.status: _status(f"The branch is at step {moment.step} …")}
                elif isinstance(moment, Finished):
                    yield self._with_ghost(parent, moment)

    def _with_ghost(self, parent: Episode, branch: Finished) -> Updates:
        bundle = started(parent, self.bundles)
        ghost = started(branch.episode, self.bundles)
        said = f"Branch: {branch.episode.outcome.sentence}"
        shown = self._viewed(bundle, ghost=ghost) | {self.parts.status: _status(said)}
        if branch.problem:
            # What is not stored has no address.
            shown[self.parts.viewer]["ghost"]["id"] = ""
            shown[self.parts.complaint] = gr.HTML(_message(branch.problem), visible=True)
        return shown

    # --- helpers -----------------------------------------------------------------------------

    def _find(self, key: str) -> Episode:
        try:
            return self.services.archive.table.get(key)
        except UserError:
            return self.services.recordings.table.get(key)

    def _lender(self, who: str, where: str) -> Callable[[], AbstractContextManager[Environment]]:
        return lambda: borrowed(self.services.simulators, who, where)

    def _saved(self, run: str, kind: Literal["zip", "html"]) -> dict[str, Any]:
        try:
            with surprises_told("The download"):
                bundle = started(self._find(run), self.bundles)
                if kind == "zip":
                    content, media = zipped(files_of(bundle)), "application/zip"
                else:
                    content, media = offline_page(payload(bundle)).encode(), "text/html"
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return {
            "turn": next(_turns),
            "name": f"vlm4vla-{bundle.episode.id}.{kind}",
            "type": media,
            "content": base64.b64encode(content).decode(),
        }

    def _sorry(self, error: UserError) -> Updates:
        listed = choice(self.services.archive, self.services.recordings)
        return {
            self.parts.choice: gr.HTML(_message(str(error)) + listed, visible=True),
            self.parts.status: "",
        }

    def _complain(self, error: UserError) -> Updates:
        return {
            self.parts.complaint: gr.HTML(_message(str(error)), visible=True),
            self.parts.status: _status(""),
        }


def _others(episode: Episode, scene: Scene) -> list[list[str]]:
    """Sentences about the same task and something else, at most four."""
    goal = judged_goal(episode.spec)
    if episode.spec.suite != NAME or goal is None:
        return []
    told = zip(scene.goals(goal.task), suggestions(scene, goal.task), strict=True)
    return [[text] for one, text in told if one != goal][:4]


def _changes(episode: Episode) -> list[tuple[str, str]]:
    """What can be changed about what there is to see: what is shown, and what it is called."""
    if episode.spec.suite != NAME:
        return UNCHANGED
    gone = [(f"the {name} is gone", name) for name in removable(episode.spec)]
    return [*UNCHANGED, ("the picture is blank", BLANK), *gone]


def _progress(bundle: Bundle) -> str:
    if not bundle.drawn:
        return f"Drawing it again: {len(bundle.pictures)} of {bundle.episode.steps + 1} moments …"
    return (
        f"Asking the policy again: {len(bundle.explanations)} of {bundle.inferences} inferences …"
    )


def _status(text: str) -> str:
    return f'<p class="is" role="status">{html.escape(text)}</p>'


def _message(text: str) -> str:
    return f'<p class="message" role="alert">{html.escape(text)}</p>'


def _plain(value: Any) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 6 else None
