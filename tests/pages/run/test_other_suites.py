"""An episode of another suite opens by its link, though its scenes cannot be chosen here."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pages import site
from tests.core.toy_suite import CAMERA, TOY, ToyAgent, ToyEnvironment
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentSpan, Episode
from vlm4vla.core.rollout import Recorder, rollout
from vlm4vla.data.pictures import encode_preview
from vlm4vla.episodes.archive import Archive
from vlm4vla.suites.registry import SUITES


@pytest.fixture(autouse=True)
def known_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SUITES._items, TOY.name, TOY)
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))


def kept(*, film: bool) -> Episode:
    """An episode of the toy suite in the archive."""
    agent, spec = ToyAgent(), TOY.spec("go", 5, Condition())
    recorder = Recorder(TOY, spec, [AgentSpan(agent.identity)])
    views = []
    for step in rollout(ToyEnvironment(), agent, spec, cameras=(CAMERA,)):
        recorder.add(step)
        views.append(step.transition.observation.images[CAMERA])
    episode = recorder.episode("rollout")
    archive = Archive.open()
    archive.table.put(episode)
    if film:
        archive.films.put(episode.id, encode_preview(np.stack(views), 10))
    return episode


def opened(run_id: str) -> dict[str, Any]:
    """What the page says last of each component, by its id."""
    app = site.build(FakeSimulators(), FakeCatalogue())  # type: ignore[arg-type]
    handler: Any = next(f.fn for f in app.fns.values() if f.fn and f.name == "first_sight")
    visit = SimpleNamespace(session_hash="a", client=None, query_params={"run": run_id})
    said: dict[str, Any] = {}
    for updates in handler(visit):
        said |= {part.elem_id: value for part, value in updates.items()}
    return said


@pytest.mark.parametrize("film", [True, False])
def test_its_film_and_its_card_are_shown(film: bool) -> None:
    episode = kept(film=film)
    said = opened(episode.id)
    card = said["result"]
    assert (card["id"], card["title"]) == (episode.id, "Success")
    assert card["sentence"] == episode.outcome.sentence
    # Its scenes cannot be run here, so nothing is offered to copy.
    assert not {"command", "python", "client"} & card.keys()
    assert bool(card["film"]) is film
    assert said["live"]["phase"] == ("recording" if film else "still")
    assert said["live"]["things"] == {}


def test_a_link_to_nothing_shows_nothing_else() -> None:
    said = opened("0123456789abcdef")
    assert said["live"]["phase"] == "error"
    assert "no such stored episode" in said["live"]["note"]
    assert not said["live"]["video"]
