"""What happens on the Run page: one method an event, each a stream of updates."""

import contextlib
import html
import random
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import gradio as gr

from pages.limits import address_of
from pages.run import elsewhere, moments
from pages.run.layout import Layout, agents, samples
from pages.run.live_view import Shown, message, new_turn
from pages.run.reading_line import told as read_out
from pages.run.result_card import as_data_url, card
from vlm4vla import seeds
from vlm4vla.agents.catalogue import AgentCatalogue, label_of
from vlm4vla.agents.facts import on_known_sentences
from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.core.episode import Episode, Outcome
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.rates import USUAL, Standing, standing
from vlm4vla.errors import UserError, surprises_told
from vlm4vla.live.elsewhere import SCENES, play_elsewhere
from vlm4vla.live.instruction import sentence_for, suggestions, understand
from vlm4vla.live.maps import METHODS, MapWishes
from vlm4vla.live.queue import Series
from vlm4vla.live.request import MOST_STEPS, Choice, Request, choose, take_request
from vlm4vla.live.session import Finished, Frame, Moment, Waiting, look, play
from vlm4vla.live.simulators import Simulators
from vlm4vla.live.switches import BLIND, SWAP, Switches
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import Scene

Updates = dict[Any, Any]

Asked = tuple[str, str, int, str, int, int]
"""Agent, task, seed, sentence, most steps and actions an inference: what `take_request` takes."""


@dataclass(frozen=True)
class Handlers:
    """The event handlers of the Run page.

    Attributes:
        parts: the page's components.
        simulators: where episodes are played.
        catalogue: who can act.
        archive: where finished episodes are kept.
        recordings: what comes with the app.
        opening: the id of the recording that opens the page.
        switches: what visitors change in mid-run.
        wishes: which maps visitors want.
    """

    parts: Layout
    simulators: Simulators
    catalogue: AgentCatalogue
    archive: Archive
    recordings: Archive
    opening: str
    switches: Switches = field(default_factory=Switches)
    wishes: MapWishes = field(default_factory=MapWishes)

    # --- events ------------------------------------------------------------------------------

    def first_sight(self, request: gr.Request) -> Iterator[Updates]:
        """The page was opened."""
        asked = {name: str(value) for name, value in request.query_params.items()}
        first = self._new_agents()
        if (method := asked.get("map", "")) in METHODS:
            self.wishes.choose(visitor(request), method)
            first[self.parts.map] = method
        yield from _with_first(first, self._asked_for_by(asked, request))

    def show_scene(
        self,
        task: str,
        number: float | None,
        sentence: str,
        shown: tuple[str, int] | None,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """A scene was chosen, or a menu was left: Gradio calls both input."""
        if shown is not None and task == shown[0] and number == shown[1]:
            # A stream that says nothing would empty every component.
            yield {self.parts.scene: shown}
            return
        yield from self._show_scene(task, number, sentence, request)

    def draw_scene(self, task: str, sentence: str, request: gr.Request) -> Iterator[Updates]:
        """A new scene was asked for."""
        number = random.choice(seeds.TEST)
        drawn = self._show_scene(task, number, sentence, request)
        yield from _with_first({self.parts.seed: number}, drawn)

    def carry_out(
        self,
        name: str,
        task: str,
        number: float | None,
        sentence: str,
        steps: float,
        actions: int,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Run was pressed."""
        shown = Shown(new_turn(), "starting", _LOADING, name)
        loading = not self.catalogue.loaded(name)
        if loading:
            yield {self.parts.live: message(shown)}
        try:
            with surprises_told("The run"):
                asked = take_request(self.catalogue, task, number, sentence, name, steps, actions)
        except UserError as error:
            yield self._complain(error) | (self._broken(shown, error) if loading else {})
            return
        label = label_of(asked.entry.identity)
        shown = replace(shown, agent=label, instruction=asked.reading.text)
        told = self._quiet() | {self.parts.reading: read_out(asked.reading)}
        if not asked.reading.judged:
            told |= self._not_judged(asked)
        if not asked.understood:
            yield told
            return
        # A browser may skip what is followed closely by something else, so nothing is said once.
        underway = self._again(None) | {
            self.parts.stop: gr.Button(interactive=True),
            self.parts.result: None,
        }
        yield told | underway
        try:
            with surprises_told("The run"):
                yield from self._live(asked, shown, underway, request)
        except UserError as error:
            yield self._broken(shown, error)

    def run_offered(
        self,
        name: str,
        task: str,
        number: float | None,
        offered: str | list[str],
        steps: float,
        actions: int,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """An offered sentence was pressed."""
        # A dataset hands over a row, a state its value.
        sentence = offered if isinstance(offered, str) else offered[0]
        played_now = self.carry_out(name, task, number, sentence, steps, actions, request)
        yield from _with_first({self.parts.instruction: sentence}, played_now)

    def run_elsewhere(self, asked: Asked | None, request: gr.Request) -> Iterator[Updates]:
        """The same sentence was asked for in other scenes."""
        if asked is None:
            # A stream that says nothing would empty every component.
            yield {self.parts.asked: None}
            return
        shown = Shown(new_turn(), "starting", _LOOKING, asked[0])
        underway: Updates = {
            self.parts.stop: gr.Button(interactive=True),
            self.parts.elsewhere: gr.Button(interactive=False),
        }
        yield self._quiet() | underway | {self.parts.live: message(shown)}
        played: list[elsewhere.Played] = []
        with self.simulators.queue.series(visitor(request)) as series:
            yield from self._elsewhere(asked, shown, played, underway, series, request)
        if series.end == "replaced":
            yield self._off()
            return
        # Otherwise, whatever ended it, what was seen stays and can be asked for again.
        yield self._off() | {
            self.parts.scenes: elsewhere.told(played, SCENES, ended=True) if played else None,
            self.parts.elsewhere: gr.Button(interactive=True),
        }

    def show_recorded(self, index: int, request: gr.Request) -> Iterator[Updates]:
        """A recording was pressed."""
        yield from self._show_stored(
            self.recordings, self.recordings.oldest_first()[index], request
        )

    def understand(self, task: str, number: float | None, sentence: str) -> dict[str, Any] | None:
        """Something was typed."""
        try:
            return read_out(understand(sentence, choose(task, number).scene))
        except UserError:
            # It is refused when it is run; nobody is told off in the middle of a word.
            return None

    def point(self, task: str, number: float | None, event: gr.SelectData) -> Updates:
        """Things in the picture were pointed at."""
        try:
            scene = choose(task, number).scene
        except UserError as error:
            return self._complain(error)
        names = [str(name) for name in event.index][:2] if isinstance(event.index, list) else []
        sentence = sentence_for(scene, names) or sentence_for(scene, names[:1])
        if not sentence:
            # A handler that says nothing would empty every component.
            return {self.parts.instruction: gr.skip()}
        return {
            self.parts.instruction: sentence,
            self.parts.reading: read_out(understand(sentence, scene)),
        }

    def stop(self, request: gr.Request) -> None:
        """Stop was pressed."""
        self.simulators.queue.stop(visitor(request))

    def blind(self, request: gr.Request) -> None:
        """The policy is to see nothing from now on."""
        self.switches.ask(visitor(request), BLIND)

    def choose_map(self, method: str, request: gr.Request) -> None:
        """A map was chosen, or none; it holds from the next picture on."""
        self.wishes.choose(visitor(request), method)

    def swap(self, request: gr.Request) -> None:
        """The policy is to be told of another object from now on."""
        self.switches.ask(visitor(request), SWAP)

    # --- streams -----------------------------------------------------------------------------

    def _live(
        self, asked: Request, shown: Shown, underway: Updates, request: gr.Request
    ) -> Iterator[Updates]:
        agent = asked.entry.new_agent()
        with self.simulators.queue.series(visitor(request)) as series:
            playing = play(
                self.simulators,
                series.visitor,
                agent,
                asked.spec,
                self.archive,
                asked.told,
                address(request),
                switches=self.switches,
                series=series,
                wishes=self.wishes,
            )
            yield from self._told(playing, series, asked, shown, underway)

    def _told(
        self,
        playing: Generator[Moment, None, None],
        series: Series,
        asked: Request,
        shown: Shown,
        underway: Updates,
    ) -> Iterator[Updates]:
        live = self.parts.live
        over: Updates = {}
        with contextlib.closing(playing) as seen:
            for moment in seen:
                if series.end == "replaced":
                    # The page belongs to what was started meanwhile; this one is kept nevertheless.
                    continue
                if isinstance(moment, Waiting):
                    yield underway | {live: message(moments.waiting(shown, moment))}
                elif isinstance(moment, Frame):
                    shown = moments.at(replace(shown, phase="live", note=_LIVE), moment)
                    yield underway | self._switchable(asked, moment) | {live: message(shown)}
                elif isinstance(moment, Outcome):
                    shown = moments.ended(shown, moment)
                    over = {live: message(shown), **self._off()}
                    yield over
                else:
                    again = (
                        asked.entry.name,
                        asked.choice.task,
                        asked.choice.scene.seed,
                        asked.reading.text,
                        asked.condition.max_steps,
                        asked.condition.replan_every,
                    )
                    yield (
                        over
                        | self._again(again)
                        | {self.parts.result: self._card_of(asked, moment)}
                    )
        if series.end == "replaced":
            # Whatever has them on says so again and again; Gradio repeats what is said last.
            yield self._off()

    def _elsewhere(
        self,
        again: Asked,
        shown: Shown,
        played: list[elsewhere.Played],
        underway: Updates,
        series: Series,
        request: gr.Request,
    ) -> Iterator[Updates]:
        # An error belongs to the turn that is shown: of an older one nobody would hear, and a
        # newer one would cover what the visitor has started meanwhile.
        scene_by_scene = self._scene_by_scene(again, shown, played, series, request)
        try:
            with surprises_told("The run"), contextlib.closing(scene_by_scene) as seen:
                for shown in seen:
                    if series.end == "replaced":
                        continue
                    strip = elsewhere.told(played, SCENES, ended=False)
                    yield underway | {self.parts.live: message(shown), self.parts.scenes: strip}
        except UserError as error:
            yield self._broken(shown, error)

    def _scene_by_scene(
        self,
        again: Asked,
        shown: Shown,
        played: list[elsewhere.Played],
        series: Series,
        request: gr.Request,
    ) -> Generator[Shown, None, None]:
        name, task, seed, sentence, steps, actions = again
        asked = take_request(self.catalogue, task, seed, sentence, name, steps, actions)
        shown = replace(shown, agent=label_of(asked.entry.identity), instruction=sentence)
        playing = play_elsewhere(self.simulators, series, asked, self.archive, address(request))
        with contextlib.closing(playing) as seen:
            for number, there, moment in seen:
                if number == len(played):
                    played.append(elsewhere.Played(_named(there.choice)))
                    shown = replace(shown, turn=new_turn(), events=(), step=0, limit=0)
                if isinstance(moment, Waiting):
                    shown = moments.waiting(shown, moment)
                elif isinstance(moment, Frame):
                    place = f"Scene {_named(there.choice)}, {number + 1} of {SCENES}. {_LIVE}"
                    shown = moments.at(replace(shown, phase="live", note=place), moment)
                    if moment.step % _EVERY == 0:
                        picture = elsewhere.small(moment.view)
                        played[number] = replace(played[number], picture=picture)
                elif isinstance(moment, Outcome):
                    shown = moments.ended(shown, moment)
                    played[number] = elsewhere.over(played[number], moment)
                else:
                    kept = "" if moment.problem else moment.episode.id
                    played[number] = replace(played[number], run=kept)
                yield shown

    def _show_scene(
        self,
        task: str,
        number: float | None,
        sentence: str,
        request: gr.Request,
        *,
        linked: bool = False,
    ) -> Iterator[Updates]:
        try:
            chosen = choose(task, number)
        except UserError as error:
            # The menus no longer say what is shown: going back to it is a choice.
            yield self._complain(error) | {self.parts.scene: None}
            return
        if linked:
            told = self._linked(chosen, sentence) | self._menus(chosen)
        else:
            # The menus may be what it was chosen with: written to, they would lose what is typed.
            told = self._offer(chosen, sentence if _valid(sentence, chosen.scene) else "")
        yield from self._look_at(chosen, told, _INVITATION, request)

    def _look_at(
        self, chosen: Choice, told: Updates, note: str, request: gr.Request
    ) -> Iterator[Updates]:
        """What is told of a scene, then its picture."""
        with self.simulators.queue.series(visitor(request)) as series:
            shown = Shown(new_turn(), "still", note)
            yield told
            # A browser loses changes of these that are followed closely by something else. What can
            # be typed into is not told again: by then there may be other words.
            pressed = (self.parts.chips, self.parts.elsewhere, *self._off())
            again = {part: told[part] for part in pressed}
            yield from self._picture(chosen, again, shown, series, request)

    def _picture(
        self, chosen: Choice, again: Updates, shown: Shown, series: Series, request: gr.Request
    ) -> Iterator[Updates]:
        live = self.parts.live
        spec = TABLETOP.spec(chosen.task, chosen.scene.seed, Condition())
        try:
            with contextlib.closing(
                look(self.simulators, series.visitor, spec, address(request), series)
            ) as seen:
                for moment in seen:
                    if series.end == "replaced":
                        break
                    if isinstance(moment, Waiting):
                        yield again | {live: message(moments.waiting(shown, moment))}
                    else:
                        yield again | {live: message(moments.still(shown, moment, chosen.scene))}
        except UserError as error:
            yield self._broken(shown, error)
            return
        if series.end == "replaced":
            # Another scene is shown already, and Gradio repeats what a stream said last.
            yield {live: gr.skip()}

    def _asked_for_by(self, asked: dict[str, str], request: gr.Request) -> Iterator[Updates]:
        first = self.recordings.table.get(self.opening).spec
        if "run" in asked:
            yield from self._show_stored(self.archive, asked["run"], request)
        elif asked.keys() & {"task", "seed", "instruction"}:
            yield from self._show_scene(
                asked.get("task", first.task),
                _number(asked.get("seed", str(first.seed))),
                asked.get("instruction", ""),
                request,
                linked=True,
            )
        else:
            yield from self._announce(self._recording(self.recordings, self.opening))

    def _show_stored(self, shelf: Archive, run_id: str, request: gr.Request) -> Iterator[Updates]:
        self.simulators.queue.replace(visitor(request))
        try:
            episode = shelf.table.get(run_id)
            if episode.spec.suite != self.simulators.suite.name:
                yield from self._show_elsewhere(shelf, episode)
                return
            chosen = choose(episode.spec.task, episode.spec.seed)
        except UserError as error:
            # Nothing else is shown in its place: it would pass for what was asked for.
            yield self._complain(error) | self._broken(Shown(new_turn(), "error"), error)
            return
        film = shelf.films.path(episode.id)
        name = self.catalogue.name_of(episode.agent.digest)
        changed = episode.spec.condition
        known = self._standing(episode, name)
        told = (
            self._offer(chosen, episode.spec.instruction)
            | self._menus(chosen)
            | {
                self.parts.result: card(episode, known, as_data_url(film) if film else "", name),
                self.parts.max_steps: changed.max_steps or MOST_STEPS,
                self.parts.replan_every: changed.replan_every,
            }
        )
        if name:
            told[self.parts.agent] = gr.Dropdown(agents(self.catalogue), value=name)
            told |= self._again(
                (
                    name,
                    chosen.task,
                    chosen.scene.seed,
                    episode.spec.instruction,
                    changed.max_steps,
                    changed.replan_every,
                )
            )
        else:
            gone = UserError(_GONE, "Run takes who is chosen above.")
            told[self.parts.complaint] = _message(gone)
        if film:
            seen = shelf.films.seen(episode.id)
            recorded = moments.recording(episode, film, seen, chosen.scene)
            yield from _with_first(told, self._announce(recorded))
        else:
            yield from self._look_at(chosen, told, _NO_VIDEO, request)

    def _show_elsewhere(self, shelf: Archive, episode: Episode) -> Iterator[Updates]:
        """An episode of a suite whose scenes cannot be chosen here: its film and its card."""
        film = shelf.films.path(episode.id)
        known = self._standing(episode, "")
        told = (
            self._quiet()
            | self._off()
            | {self.parts.result: card(episode, known, as_data_url(film) if film else "", "")}
        )
        if film:
            recorded = moments.recording(episode, film, shelf.films.seen(episode.id), None)
            yield from _with_first(told, self._announce(recorded))
        else:
            yield told | {self.parts.live: message(Shown(new_turn(), "still", _NO_FILM))}

    def _announce(self, recorded: Shown) -> Iterator[Updates]:
        live = self.parts.live
        recorded = replace(recorded, turn=new_turn())
        while self.simulators.readiness.status == "starting":
            yield {live: message(replace(recorded, note=GETTING_READY))}
            self.simulators.wait(0.5)
        if self.simulators.readiness.status == "ready":
            yield {live: message(replace(recorded, note=_READY))}
            return
        why = UserError(
            f"Recordings only: {self.simulators.readiness.reason}",
            f"To run episodes here: {self.simulators.readiness.fix}",
        )
        yield {
            live: message(replace(recorded, note="Recorded earlier.")),
            self.parts.banner: _message(why),
            self.parts.run: gr.Button(interactive=False),
            self.parts.chips: gr.Dataset(samples=[], visible=False),
            self.parts.recorded: gr.Dataset(visible=True),
        }

    # --- updates -----------------------------------------------------------------------------

    def _new_agents(self) -> Updates:
        """The menu, where checkpoints came or went since the app was started.

        Who was chosen is left alone: by the time that a slow browser hears of this, somebody may
        have chosen.
        """
        menu = agents(self.catalogue)
        if menu == self.parts.agent.choices:
            return {}
        names = [name for _, name in menu]
        gone = self.parts.agent.value not in names
        return {self.parts.agent: gr.Dropdown(menu, value=names[0]) if gone else gr.Dropdown(menu)}

    def _quiet(self) -> Updates:
        return {
            self.parts.complaint: gr.HTML(visible=False),
            self.parts.proposal: gr.Button(visible=False),
            self.parts.proposed: "",
        }

    def _complain(self, error: UserError) -> Updates:
        return self._quiet() | {self.parts.complaint: _message(error)}

    def _broken(self, shown: Shown, error: UserError) -> Updates:
        lost = self.simulators.readiness.status == "unavailable"
        return {
            self.parts.live: message(replace(shown, phase="error", note=str(error), src="")),
            **self._off(),
        } | ({self.parts.run: gr.Button(interactive=False)} if lost else {})

    def _off(self) -> Updates:
        """Nothing happens that could be stopped or switched."""
        buttons = (self.parts.stop, self.parts.blind, self.parts.swap)
        return dict.fromkeys(buttons, gr.Button(interactive=False))

    def _offer(self, chosen: Choice, sentence: str) -> Updates:
        offered = sentence or suggestions(chosen.scene, chosen.task)[0]
        return (
            self._quiet()
            | self._off()
            | {
                self.parts.scene: (chosen.task, chosen.scene.seed),
                self.parts.chips: gr.Dataset(samples=samples(chosen)),
                self.parts.instruction: offered,
                self.parts.reading: None,
                self.parts.result: None,
            }
            | self._again(None)
        )

    def _menus(self, chosen: Choice) -> Updates:
        return {self.parts.task: chosen.task, self.parts.seed: chosen.scene.seed}

    def _linked(self, chosen: Choice, sentence: str) -> Updates:
        """What an address asks for: its sentence, judged or not; a policy may carry out either."""
        if not sentence.strip():
            return self._offer(chosen, "")
        try:
            reading = understand(sentence, chosen.scene)
        except UserError as error:
            refused = UserError("The instruction in the address is not taken.", str(error))
            return self._offer(chosen, "") | {self.parts.complaint: _message(refused)}
        return self._offer(chosen, reading.text) | {self.parts.reading: read_out(reading)}

    def _again(self, asked: Asked | None) -> Updates:
        """Offers to run something in other scenes, too, or nothing."""
        return {
            self.parts.asked: asked,
            self.parts.elsewhere: gr.Button(visible=asked is not None, interactive=True),
            self.parts.scenes: None,
        }

    def _not_judged(self, asked: Request) -> Updates:
        reading = asked.reading
        if not asked.understood:
            sorry = UserError("The scripted expert cannot do this.", reading.sentence)
            updates: Updates = {self.parts.complaint: _message(sorry)}
        else:
            updates = {}
        if not reading.suggestions:
            return updates
        nearest = reading.suggestions[0]
        return updates | {
            self.parts.proposed: nearest,
            self.parts.proposal: gr.Button(f"Run “{nearest}” instead", visible=True),
        }

    def _switchable(self, asked: Request, frame: Frame) -> Updates:
        """The switches of a policy that runs; each can be pressed once."""
        policy = asked.entry.identity.kind == "policy"
        pressed = {change.name for change in frame.changes}
        return {
            self.parts.blind: gr.Button(interactive=policy and BLIND not in pressed),
            self.parts.swap: gr.Button(interactive=policy and SWAP not in pressed),
        }

    def _card_of(self, asked: Request, finished: Finished) -> dict[str, Any]:
        name = asked.entry.name
        known = self._standing(finished.episode, name)
        film = as_data_url(finished.film)
        return card(finished.episode, known, film, name, finished.problem)

    def _standing(self, episode: Episode, name: str) -> Standing | None:
        """How often the agent does this task; None where that would not be like with like."""
        if episode.spec.condition not in _COUNTED:
            return None
        if episode.reading.get("kind", "known") != "known":
            return None
        published = on_known_sentences(self.catalogue.evaluation(name))
        return standing(self.archive.table, episode.agent.digest, episode.goal_task, published)

    def _recording(self, shelf: Archive, run_id: str) -> Shown:
        episode = shelf.table.get(run_id)
        film = shelf.films.path(episode.id)
        assert film is not None, "every recording has a film"
        seen = shelf.films.seen(episode.id)
        return moments.recording(episode, film, seen, _scene_of(episode))


GETTING_READY: Final = "Recorded earlier. The simulator is getting ready."
_READY: Final = "Recorded earlier. Type an instruction, or press one, and it happens live."
_LIVE: Final = "Happening now, simulated while you watch. Stop or Escape ends it."
_LOOKING: Final = "Looking for scenes in which the sentence has a meaning."
_LOADING: Final = "The checkpoint is being loaded."
_INVITATION: Final = "Type an instruction, or press one of those offered."
_NO_VIDEO: Final = "No video was made of this episode. Press Run to see it."
_NO_FILM: Final = "No film was made of this episode."
_GONE: Final = "The checkpoint that acted here is not on this server any more."


_COUNTED: Final = (USUAL, Condition(GIVEN))
"""Under which the episodes of a rate were played; a typed sentence must be a known one besides."""

_EVERY: Final = 5
"""Steps between the small pictures of a scene."""


def visitor(request: gr.Request) -> str:
    """Who asks: a page that is open in a browser, or one call of a program."""
    return request.session_hash or uuid.uuid4().hex


def address(request: gr.Request) -> str:
    """Where somebody asks from, for the share of the queue that one address may take."""
    return address_of(request.client.host if request.client else None)


def _named(choice: Choice) -> str:
    return f"{choice.task} {choice.scene.seed}"


def _with_first(updates: Updates, stream: Iterator[Updates]) -> Iterator[Updates]:
    """Says something together with the first that a stream has to say."""
    for index, said in enumerate(stream):
        yield said if index else updates | said


def _valid(sentence: str, scene: Scene) -> bool:
    try:
        return understand(sentence, scene).judged
    except UserError:
        return False


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _scene_of(episode: Episode) -> Scene:
    return choose(episode.spec.task, episode.spec.seed).scene


def _message(error: UserError) -> gr.HTML:
    words = html.escape(str(error))
    return gr.HTML(f'<p class="message" role="alert">{words}</p>', visible=True)
