"""Nonsense through the public functions: an answer or a clean error, and never a dead server."""

import contextlib
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest

from pages import site
from tests import waiting
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import serve
from vlm4vla.language.kinds import all_words
from vlm4vla.live import session
from vlm4vla.live.instruction import suggestions
from vlm4vla.live.request import choose
from vlm4vla.suites.tabletop.scene import TASKS

NASTY: tuple[Any, ...] = (
    "", " ", "\x00", "\x1b[2J", "\u202e", "\ud800", "🤖" * 50, "a" * 200, "a" * 201, "a" * 100_000,
    "../../etc/passwd", "/dev/zero", "file:///etc/passwd", "C:\\con", "%s%n", "${HOME}", "{0}",
    "{__class__}", "'; drop table runs; --", "<script>alert(1)</script>", "null", "NaN", "1e999",
    None, True, False, 0, -1, 1, 7, 99_999, 100_000, 2**31, 2**63, 10**400, 0.5, -0.0, 1e300,
    float("nan"), float("inf"), [], {}, [[]], [None], {"a": 1}, ["pick"], b"pick",
)  # fmt: skip
SAFE_TREE = re.compile(
    r"episodes\.jsonl|films(/[0-9a-f]{16}\.mp4)?|table(/episodes\.sqlite(-wal|-shm)?)?"
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No pause between frames, and a data folder to look into afterwards."""
    monkeypatch.setattr(session, "STEPS_PER_SECOND", 1e9)
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    return tmp_path


def handler(app: gr.Blocks, name: str) -> Callable[..., Any]:
    """The function behind an endpoint or an event."""
    return next(f.fn for f in app.fns.values() if f.fn and f.name == name)


def text(rng: random.Random) -> Any:
    """Anything that somebody may send for a text."""
    draw = rng.random()
    if draw < 0.3:
        return rng.choice(NASTY)
    if draw < 0.5:
        return "".join(chr(rng.randrange(1, 0x11000)) for _ in range(rng.randrange(60)))
    scene = choose(rng.choice(TASKS), rng.randrange(20)).scene
    task = rng.choice([goal.task for goal in scene.goals()])
    sentence = rng.choice(suggestions(scene, task)).split()
    if draw < 0.9:
        for _ in range(rng.randrange(3)):
            sentence[rng.randrange(len(sentence))] = rng.choice([*sorted(all_words()), "?"])
    return " ".join(sentence)


def number(rng: random.Random) -> Any:
    return rng.choice(NASTY) if rng.random() < 0.4 else rng.randrange(-3, 100_010)


def task(rng: random.Random) -> Any:
    return rng.choice(NASTY) if rng.random() < 0.2 else rng.choice(TASKS)


def setting(rng: random.Random, most: int) -> Any:
    return rng.choice(NASTY) if rng.random() < 0.2 else rng.randrange(most)


def arguments(rng: random.Random) -> tuple[Any, ...]:
    driver = rng.choice(NASTY) if rng.random() < 0.2 else "expert"
    return task(rng), number(rng), text(rng), driver, setting(rng, 120), setting(rng, 6)


def outcome_of(call: Callable[[], Any]) -> str:
    """ "answer", or "error" if it was refused as it should be; anything else fails."""
    try:
        answer = call()
    except gr.Error as error:
        assert str(error.message).strip()
        return "error"
    json.dumps(answer)
    return "answer"


@pytest.mark.parametrize("calls", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_calls_are_answered_or_refused(quick: Path, calls: int) -> None:
    rng = random.Random(4)
    simulators: Any = FakeSimulators(places=2)
    apps = [site.build(simulators, FakeCatalogue(kind)) for kind in ("expert", "policy")]
    who: Any = SimpleNamespace(session_hash="fuzz", client=None, query_params={})
    told = {"answer": 0, "error": 0}
    for index in range(calls):
        # A policy takes any sentence, and an episode takes longer than an error.
        app = apps[index % 10 == 0]
        kind = index % 5
        if kind in (0, 1):
            given = arguments(rng)
            call = handler(app, "run_episode")
            told[outcome_of(lambda call=call, given=given: call(who, *given))] += 1  # type: ignore[misc]
        elif kind == 2:
            query = {
                name: value
                for name, value in (
                    ("run", text(rng)),
                    ("task", task(rng)),
                    ("seed", number(rng)),
                    ("instruction", text(rng)),
                    ("__theme", text(rng)),
                )
                if rng.random() < 0.5
            }
            visit: Any = SimpleNamespace(session_hash="fuzz", client=None, query_params=query)
            assert list(handler(app, "first_sight")(visit))
        elif kind == 3:
            name = rng.choice(["instructions", "stored_episode"])
            given = (task(rng), number(rng)) if name == "instructions" else (text(rng),)
            call = handler(app, name)
            told[outcome_of(lambda call=call, given=given: call(*given))] += 1  # type: ignore[misc]
        else:
            given_task, seed, said, driver, steps, actions = arguments(rng)
            page = handler(app, "carry_out")
            assert list(page(driver, given_task, seed, said, steps, actions, who))
    assert min(told.values()) > calls / 20
    assert simulators.busy == 0
    assert simulators.most_busy == 1
    written = [str(path.relative_to(quick)) for path in quick.rglob("*")]
    assert [path for path in written if not SAFE_TREE.fullmatch(path)] == []
    sentence = suggestions(choose("pick", 0).scene, "pick")[0]
    answer = handler(apps[0], "run_episode")(who, "pick", 0, sentence)
    assert answer["outcome"] == "success"


@contextlib.contextmanager
def over_http(simulators: Any) -> Iterator[httpx.Client]:
    with (
        serve(simulators, FakeCatalogue()) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client


def post(client: httpx.Client, endpoint: str, body: str) -> str:
    """What the server says to a raw body, until the event is over."""
    asked = client.post(
        f"gradio_api/call/{endpoint}", content=body, headers={"content-type": "application/json"}
    )
    assert asked.status_code < 600
    if asked.status_code != 200:
        return f"status {asked.status_code}"
    event = asked.json()["event_id"]
    # The server sends heartbeats for as long as it works, so the client's own limit ends nothing.
    with client.stream("GET", f"gradio_api/call/{endpoint}/{event}") as answer:
        return "\n".join(waiting.within(60, answer.iter_lines()))


@pytest.mark.parametrize("calls", [50, pytest.param(250, marks=pytest.mark.long)])
def test_nonsense_over_http_leaves_a_server_that_works(quick: Path, calls: int) -> None:
    rng = random.Random(5)
    simulators: Any = FakeSimulators(places=2)
    with over_http(simulators) as client:
        for _ in range(calls):
            given = [value for value in arguments(rng) if not isinstance(value, bytes)]
            body = json.dumps({"data": given[: rng.choice([6, 6, 6, 3, 2, 0])]})
            if rng.random() < 0.1:
                body = body[: rng.randrange(len(body))]
            said = post(client, rng.choice(["run_episode", "instructions"]), body)
            assert re.match(r"event: (complete|error)|status 4\d\d|status 500", said), said
        for _ in range(calls // 5):
            query = {"run": str(text(rng))[:500], "seed": str(number(rng))[:50]}
            query = {
                name: value.encode("utf-8", "replace").decode() for name, value in query.items()
            }
            assert client.get("", params=query).status_code == 200
        sentence = suggestions(choose("pick", 0).scene, "pick")[0]
        said = post(client, "run_episode", json.dumps({"data": ["pick", 0, sentence, "", 0, 0]}))
        assert "event: complete" in said
        assert '"outcome": "success"' in said
    assert simulators.busy == 0
