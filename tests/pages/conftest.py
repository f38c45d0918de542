"""The app, served in this process with one simulator, for tests that drive it in a browser."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pages import site
from tests.waiting import Output
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.live.simulators import Simulators

PATIENCE = 180_000
"""Milliseconds that a test waits before it fails; tests share their processor with others."""


LIVE = ".live-view[data-ready]"
"""The live view, once it listens."""

RECORDING_SHOWS = """() => {
    const video = document.querySelector('.lv-video');
    const canvas = document.querySelector('.live-view[data-ready]');
    return video.currentTime > 0.2 || (video.hidden && canvas.dataset.painted > 0);
}"""
"""A browser without H.264, such as the one that Playwright brings, shows the last picture."""


@dataclass(frozen=True)
class Served:
    url: str
    simulators: Simulators


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def page_without_errors(browser: Any, settings: dict[str, Any]) -> Iterator[Any]:
    """A page in a context of these settings, on which no script may fail."""
    context = browser.new_context(**settings)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(PATIENCE)
    yield page
    assert complaints == []
    context.close()


@contextlib.contextmanager
def app_process(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`python app.py` in a folder, as a process of its own; gives the address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=folder,
        env={**environment, "HOST": "127.0.0.1", "PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        Output(process).line(f"http://127.0.0.1:{port}", 180)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def serve(
    simulators: Any,
    catalogue: AgentCatalogue,
    progress: Callable[[], tuple[int, int] | None] = lambda: None,
) -> Iterator[str]:
    """The app on a port of its own; gives the address."""
    app = site.build(simulators, catalogue, progress)
    port = free_port()
    app.launch(
        server_name="127.0.0.1",
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        **site.launch_settings(),
    )
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        app.close()


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    simulators = Simulators(places=1)
    simulators.open()
    with serve(simulators, AgentCatalogue(roots=())) as url:
        yield Served(url, simulators)
    simulators.close()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint of a policy that has learned nothing."""
    from vlm4vla.model.policy import Policy

    folder = tmp_path_factory.mktemp("checkpoints")
    Policy.from_vlm("qwen3-vl:tiny").save_pretrained(folder / "untrained")
    return folder


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["wide", "narrow"])
def size(request: Any, page: Any) -> None:
    """A laptop's screen and a telephone's."""
    width, height = request.param
    page.set_viewport_size({"width": width, "height": height})


@pytest.fixture
def run_page(page: Any, served: Served) -> Iterator[Any]:
    """The Run page in a browser, the simulator ready. The console must stay free of errors."""
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(PATIENCE)
    page.goto(served.url)
    page.wait_for_selector(LIVE)
    page.wait_for_function("document.querySelector('.lv-note')?.innerText.includes('live')")
    yield page
    # Gradio itself complains when a stream ends because its page was left.
    left = ("AbortError", "Unexpected error Connection errored out")
    assert [text for text in complaints if not text.startswith(left)] == []


def wait_for_phase(page: Any, *phases: str) -> None:
    page.wait_for_function(
        "([live, phases]) => phases.includes(document.querySelector(live)?.dataset.phase)",
        arg=[LIVE, list(phases)],
    )
