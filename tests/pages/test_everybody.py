"""Twenty visitors on all pages at once, who run episodes and say labels: none of these is lost."""

import json
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from pages import site
from tests import waiting
from tests.episodes.examples import EVALUATION
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.test_soak import server  # noqa: F401 - a fixture
from tests.suites.tabletop.moved import episode_of
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.suites.registry import TABLETOP

VISITORS = 20
ROUNDS = 3
TALKED_ABOUT = 4
"""Episodes that everybody says something of: two people at once are the rule here."""

LABELS = ("wrong object", "missed grasp", "dropped", "other")


class Event(NamedTuple):
    """Something that a page asks its server."""

    index: int
    name: str
    module: str
    inputs: list[Any]
    """What they hold at first."""


def events_of_pages() -> tuple[dict[str, list[Event]], dict[str, Event]]:
    """What each page asks when it is opened, and what is pressed on two of them."""
    app = site.build(FakeSimulators(), FakeCatalogue())  # type: ignore[arg-type]
    pages: dict[str, list[Event]] = {}
    pressed, opening = {}, set[int]()
    on_page = {
        event["id"]: name
        for name, page in app.get_config_file()["page"].items()
        for event in app.get_config_file()["dependencies"]
        if event["id"] in page["dependencies"]
    }
    for index, one in app.fns.items():
        inputs = [getattr(shown, "value", None) for shown in one.inputs]
        event = Event(index, str(one.name), str(getattr(one.fn, "__module__", "")), inputs)
        opens = one.trigger_after in opening or any(what == "load" for _, what in one.targets)
        if opens and one.fn is not None:
            opening.add(index)
            pages.setdefault(on_page[index], []).append(event)
        if (event.name, event.module) == ("carry_out", "pages.run.handlers"):
            pressed["run"] = event
        if (event.name, event.module) == ("hear", "pages.failures.page"):
            pressed["say"] = event
    return pages, pressed


class Visitor:
    """Opens every page in an order of their own, runs an episode and says a label, in rounds."""

    def __init__(
        self,
        number: int,
        url: str,
        pages: dict[str, list[Event]],
        pressed: dict[str, Event],
        known: list[str],
    ) -> None:
        self.number, self.url = number, url
        self.pages, self.pressed, self.known = pages, pressed, known
        self.rng = random.Random(number)
        self.ran: list[tuple[int, str]] = []
        self.said: list[tuple[str, str, str]] = []
        self.wrong: list[str] = []

    def stay(self) -> None:
        headers = {"x-forwarded-for": f"203.0.113.{self.number}"}
        with httpx.Client(headers=headers, timeout=120, trust_env=False) as self.client:
            for turn in range(ROUNDS):
                todo: list[Any] = [(self.open, name) for name in self.pages]
                todo += [(self.run, turn), (self.say, turn)]
                for what, value in self.rng.sample(todo, len(todo)):
                    try:
                        what(value)
                    except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                        self.wrong.append(f"{what.__name__} {value}: {error!r}")

    def ask(self, event: Event, data: list[Any], value: Any = None) -> str:
        """Sends an event as a page does, and returns the last that its server says of it."""
        who = f"{self.number}-{self.rng.getrandbits(60):x}"
        body = {"data": data, "fn_index": event.index, "session_hash": who, "trigger_id": None}
        if value is not None:
            body["event_data"] = {"index": 0, "value": json.dumps(value)}
        joined = self.client.post(f"{self.url}queue/join", json=body)
        assert joined.status_code == 200, joined.text
        last = ""
        with self.client.stream(
            "GET", f"{self.url}queue/data", params={"session_hash": who}
        ) as told:
            for line in waiting.within(300, told.iter_lines()):
                if '"process_completed"' in line:
                    last = line
                    break
        message = json.loads(last.removeprefix("data:"))
        assert message["success"], last[:300]
        return last

    def open(self, name: str) -> None:
        page = self.client.get(self.url.removesuffix("gradio_api/") + name)
        assert page.status_code == 200
        assert "VLM4VLA" in page.text
        for event in self.pages[name]:
            self.ask(event, event.inputs)

    def run(self, turn: int) -> None:
        seed = 1000 + VISITORS * turn + self.number
        sentence = TABLETOP.spec("pick", seed, Condition()).instruction
        self.ask(self.pressed["run"], ["expert", "pick", seed, sentence, 100, 0])
        self.ran.append((seed, sentence))

    def say(self, turn: int) -> None:
        key = self.known[(self.number + turn) % len(self.known)]
        who, label = f"visitor {self.number}", self.rng.choice(LABELS)
        told = {"id": key, "label": label, "who": who, "note": f"round {turn}"}
        answer = self.ask(self.pressed["say"], [], {"address": {}, "turn": turn, "say": told})
        assert "Kept." in answer, answer[:300]
        self.said.append((key, who, label))


@pytest.mark.long
def test_twenty_visitors_on_all_pages_lose_no_episode_and_no_label(
    server: tuple[str, psutil.Process],  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    url, _ = server
    home = tmp_path / "home"
    table = EpisodeTable(home / "table", log=home / "episodes.jsonl")
    table.database.upgrade()
    known = [
        table.put(
            episode_of("pick", steps=9, seed=seed, outcome="not reached"), [EVALUATION], created=1e9
        )
        for seed in range(TALKED_ABOUT)
    ]
    pages, pressed = events_of_pages()
    assert set(pages) == {"", *(page.path.strip("/") for page in site.PAGES)}
    visitors = [Visitor(number, url, pages, pressed, known) for number in range(VISITORS)]
    threads = [threading.Thread(target=visitor.stay) for visitor in visitors]
    for thread in threads:
        thread.start()
    waiting.join(threads, 1800)
    assert [wrong for visitor in visitors for wrong in visitor.wrong] == []
    ran = [one for visitor in visitors for one in visitor.ran]
    assert len(set(ran)) == VISITORS * ROUNDS
    kept = Counter(
        (one.episode.spec.seed, one.episode.spec.instruction)
        for one in table.entries()
        if one.episode.source == "live" and one.episode.spec.seed >= 1000
    )
    assert kept == Counter(ran)
    said = Counter(one for visitor in visitors for one in visitor.said)
    assert sum(said.values()) == VISITORS * ROUNDS
    stored = Counter(
        (key, one.who, one.label) for key in known for one in table.labels(key, all_of_them=True)
    )
    assert stored == said
    # The log alone brings every one of them back, too.
    lines = [json.loads(line) for line in (home / "episodes.jsonl").read_text("utf-8").splitlines()]
    assert sum(line.get("label") in LABELS for line in lines) == VISITORS * ROUNDS
