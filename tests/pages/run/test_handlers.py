"""What the Run page sends at each event, without a browser, with a simulator that only counts."""

import runpy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from pages import site
from pages.run import live_view
from pages.run.live_view import new_turn
from tests.eval.examples import EPISODE, SPEC
from tests.live.fake_simulators import FakeCatalogue, FakeEnvironment, FakeSimulators
from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.episodes.archive import Archive
from vlm4vla.live.instruction import suggestions
from vlm4vla.live.request import choose


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    return Archive.open()


class Published(FakeCatalogue):
    """A catalogue whose checkpoints all come with an evaluation on these sentences."""

    def __init__(self, sentences: str) -> None:
        super().__init__()
        self.sentences = sentences

    def evaluation(self, name: str) -> Mapping[str, Any]:
        row = {"successes": 9, "n": 10}
        return {"tasks": {"pick": row}, "sentences": self.sentences}


class Page:
    """The handlers of a page, and what they say of each component by its id."""

    def __init__(
        self, simulators: FakeSimulators | None = None, catalogue: FakeCatalogue | None = None
    ) -> None:
        served: Any = simulators or FakeSimulators()
        app = site.build(served, catalogue or FakeCatalogue())
        # Other pages have events of the same names; those of this one come first.
        found = reversed(app.fns.values())
        self._handlers: dict[Any, Any] = {one.name: one.fn for one in found if one.fn}

    def stream(self, event: str, *values: Any, **address: str) -> Iterator[dict[str, Any]]:
        visit = SimpleNamespace(session_hash="a", client=None, query_params=address)
        for updates in self._handlers[event](*values, visit):
            said = {part.elem_id or "state": value for part, value in updates.items()}
            yield {part: value for part, value in said.items() if value != gr.skip()}

    def opened(self, **address: str) -> dict[str, Any]:
        """What is said last of each component where the page is opened by an address."""
        said: dict[str, Any] = {}
        for updates in self.stream("first_sight", **address):
            said |= updates
        return said


@pytest.mark.parametrize("lasts", [5, 60])
def test_an_error_in_one_of_the_other_scenes_is_of_the_turn_that_is_shown(lasts: int) -> None:
    # It dies in the first scene, or fails to take its place in the second.
    simulators = FakeSimulators(dies_at=20 if lasts > 20 else -1, lasts=lasts)
    asked = ("expert", "pick", 0, "lift the orange cylinder", 0, 0)
    told = []
    for updates in Page(simulators).stream("run_elsewhere", asked):
        if "live" in updates:
            told.append(updates["live"])
            if told[-1]["phase"] == "success":
                simulators.queue._longest = 0
    assert told[-1]["phase"] == "error"
    assert ("process ended" if lasts > 20 else "waiting already") in told[-1]["note"]
    assert told[-1]["turn"] == told[-2]["turn"] > told[0]["turn"]


def test_of_two_scenes_that_are_chosen_quickly_the_second_is_shown_and_asked_for() -> None:
    simulators: Any = FakeSimulators()
    page = Page(simulators)
    said: dict[str, Any] = {}
    newer = page.stream("show_scene", "pick", 2, "", ("stack", 0))

    class Slow(FakeEnvironment):
        def reset(self, spec: Any, cameras: Any = ()) -> Any:
            if spec.seed == 1:
                for _ in range(2):
                    said.update(next(newer))
            return super().reset(spec, cameras)

    simulators._new_environment = partial(Slow, simulators.gate)
    for updates in page.stream("show_scene", "pick", 1, "", ("stack", 0)):
        said |= updates
    offered = suggestions(choose("pick", 2).scene, "pick")[0]
    assert (said["instruction"], said["live"]["phase"]) == (offered, "waiting")
    # Gradio repeats what a stream said last.
    assert not updates
    # Whatever is typed until the picture comes stays.
    assert not any({"instruction", "task", "seed"} & updates.keys() for updates in newer)


def test_the_menus_that_a_scene_is_chosen_with_are_not_written_into() -> None:
    chosen = next(Page().stream("show_scene", "pick", 2, "", ("stack", 0)))
    drawn = next(Page().stream("draw_scene", "pick", ""))
    linked = next(Page().stream("first_sight", task="pick", seed="2"))
    assert drawn.keys() - chosen.keys() == {"seed"}
    assert linked.keys() - chosen.keys() == {"task", "seed"}


RUN = ("expert", "pick", 0, "lift the orange cylinder", 0, 0)


@pytest.mark.parametrize(
    ("event", "values"), [("draw_scene", ("pick", "")), ("show_recorded", (0,))]
)
@pytest.mark.parametrize("until", ["live", "success"])
def test_a_run_that_is_replaced_leaves_nothing_to_press_and_no_card_of_its_own(
    event: str, values: tuple[Any, ...], until: str
) -> None:
    simulators = FakeSimulators()
    page = Page(simulators)
    said: dict[str, Any] = {}
    run = page.stream("carry_out", *RUN)
    while said.get("live", {}).get("phase") != until:
        said |= next(run)
    # Of what is over the film is made meanwhile.
    newer = page.stream(event, *values)
    shown = next(newer)
    for updates in (shown, *run, *newer):
        said |= updates
    assert said["live"]["phase"] in ("still", "recording")
    assert not any(said[part].interactive for part in ("stop", "blind", "swap"))
    assert (said["result"], said["elsewhere"]) == (shown["result"], shown["elsewhere"])
    assert simulators.busy == 0


def test_turns_go_on_counting_up_after_a_restart() -> None:
    before = new_turn()
    restarted = runpy.run_path(str(live_view.__file__))["new_turn"]()
    # JavaScript counts in steps of one up to here.
    assert before < restarted < 2**53


def test_a_sentence_of_the_address_that_can_be_run_is_kept_and_read() -> None:
    said = Page().opened(task="pick", seed="3", instruction=" wave at me ")
    assert said["instruction"] == "wave at me"
    assert said["reading"]["kind"] == "not judged"
    assert "wave" in said["reading"]["text"]
    assert said["live"]["phase"] == "still"


@pytest.mark.parametrize(("sentence", "why"), [("x" * 201, "201 characters"), ("a\u0007b", "0007")])
def test_of_a_sentence_of_the_address_that_is_not_taken_the_reason_is_told(
    sentence: str, why: str
) -> None:
    said = Page().opened(task="pick", seed="3", instruction=sentence)
    assert said["instruction"] == suggestions(choose("pick", 3).scene, "pick")[0]
    assert said["complaint"].visible
    assert "in the address is not taken" in said["complaint"].value
    assert why in said["complaint"].value


def test_an_address_without_a_sentence_has_nothing_to_complain_of() -> None:
    said = Page().opened(task="pick", seed="3", instruction="")
    assert (said["reading"], said["complaint"].visible) == (None, False)


RATE = "Its success at pick"


@pytest.mark.parametrize(
    ("condition", "alike"),
    [
        (Condition(), True),
        (Condition(GIVEN), True),
        (Condition("trained"), False),
        (Condition("broad"), False),
        (Condition(goal="alternate"), False),
        (Condition(max_steps=20), False),
        (Condition(GIVEN, replan_every=1), False),
    ],
)
def test_a_card_has_a_rate_where_the_episode_is_like_those_that_were_counted(
    condition: Condition, alike: bool, archive: Archive
) -> None:
    episode = replace(EPISODE, spec=replace(SPEC, condition=condition))
    archive.table.put(episode)
    facts = dict(Page(catalogue=Published("held out")).opened(run=episode.id)["result"]["facts"])
    assert (RATE in facts) is alike
    assert facts.get(RATE, "9 of 10").startswith("9 of 10")


def test_a_published_rate_on_other_sentences_is_not_told(archive: Archive) -> None:
    archive.table.put(EPISODE)
    facts = dict(Page(catalogue=Published("broad")).opened(run=EPISODE.id)["result"]["facts"])
    assert facts[RATE] == "not measured yet"
