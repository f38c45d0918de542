"""Twenty visitors at once, over Gradio's own queue, with stand-in simulators."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from pages import site
from tests import waiting
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import serve

VISITORS = 20


def function_index(name: str) -> int:
    app = site.build(FakeSimulators(), FakeCatalogue())  # type: ignore[arg-type]
    return next(index for index, f in app.fns.items() if f.fn and f.name == name)


def visit(
    url: str, index: int, who: str, sentence: str, told: dict[str, list[dict[str, Any]]]
) -> None:
    """Presses Run as the page does, and notes what the live view is told."""
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        data = ["expert", "pick", 0, sentence, 100, 0]
        joined = client.post(
            "gradio_api/queue/join",
            json={"data": data, "fn_index": index, "session_hash": who, "trigger_id": None},
        )
        assert joined.status_code == 200
        with client.stream(
            "GET", "gradio_api/queue/data", params={"session_hash": who}
        ) as messages:
            for line in waiting.within(120, messages.iter_lines()):
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                told[who].append(message)
                if message["msg"] in ("process_completed", "close_stream"):
                    return


@pytest.fixture
def data_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))


@pytest.mark.usefixtures("data_folder_of_its_own")
def test_twenty_visitors_are_served_or_told_their_place() -> None:
    simulators: Any = FakeSimulators(places=2, longest=24)
    told: dict[str, list[dict[str, Any]]] = {f"visitor{n}": [] for n in range(VISITORS)}
    index = function_index("carry_out")
    sentence = "lift the orange cylinder"
    with serve(simulators, FakeCatalogue()) as url:
        threads = [
            threading.Thread(target=visit, args=(url, index, who, sentence, told)) for who in told
        ]
        for thread in threads:
            thread.start()
        waiting.join(threads, 180)
    waited = 0
    for messages in told.values():
        said = json.dumps([message.get("output") for message in messages])
        assert messages[-1]["msg"] == "process_completed"
        assert messages[-1]["success"]
        assert "The robot lifted the orange cylinder" in said
        waited += "You are number" in said or "You are next" in said
    assert waited >= VISITORS // 2
    assert simulators.most_busy == 2
    assert simulators.busy == 0
