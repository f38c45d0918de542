"""What the Inspect page is told, stream by stream, without a browser."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from pages.inspect import handlers
from pages.inspect.handlers import Handlers
from pages.inspect.layout import lay_out
from pages.services import Services
from tests.inspection.examples import POLICY, still_episode
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.labelling import label_missing
from vlm4vla.inspection.shelf import Bundles

STEPS = 12
LISTED = Membership("evaluation", "near")


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Handlers:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    archive = Archive.open()
    with gr.Blocks():
        parts = lay_out()
    services = Services(FakeSimulators(), FakeCatalogue(), archive, archive)
    return Handlers(parts, services, Bundles())


@pytest.fixture
def run(on: Handlers) -> str:
    rows = np.tile([0.3, 0.3, 0, 0, 0, 0, 1.0], (STEPS, 1))
    table = on.services.archive.table
    key = table.put(still_episode(rows, task="place", agent=POLICY), [LISTED])
    label_missing(table)
    return key


def request_for(run: str) -> Any:
    return SimpleNamespace(query_params={"run": run}, session_hash="one page", client=None)


@pytest.mark.parametrize("has", [0, 4])
def test_a_map_chosen_while_pictures_are_drawn_brings_the_rest_and_the_neighbours(
    on: Handlers, run: str, has: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_PAUSE", -1)
    # A visitor's second simulator waits for the first, which stands still here between two words.
    monkeypatch.setattr(handlers, "borrowed", lambda simulators, *_: simulators.lend())
    request, viewer = request_for(run), on.parts.viewer
    opened = on.first_sight(request)
    assert len(next(opened)[viewer]["frames"]) == 0
    assert len(next(opened)[viewer]["frames"]) == 4
    choice = {"target": "gripper", "method": "occlusion", "step": 0, "pictures": has}
    event: Any = SimpleNamespace(value=json.dumps(choice))
    told = [one[viewer] for one in on.choose_maps(run, event, request)]
    assert list(opened) == []
    # What the page has is not sent again; what has been drawn without being sent, is.
    assert len(told[0]["frames"]) == 4 - has
    assert len(told[-1]["frames"]) == STEPS + 1
    assert told[-1]["near"]["total"] == 1


def test_a_branch_that_could_not_be_stored_says_so_and_has_no_address(
    on: Handlers, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> str:
        raise UserError("The disk is full.", "Make room.")

    monkeypatch.setattr(EpisodeTable, "put", full)
    *_, last = on.hand_over(run, 2, request_for(run))
    assert "The disk is full. Make room." in last[on.parts.complaint].value
    ghost = last[on.parts.viewer]["ghost"]
    assert ghost["id"] == "" and ghost["branch"] == 2
