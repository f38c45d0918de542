"""What happens first where nothing is warm yet."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import app
from pages import site
from tests import waiting
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import LIVE, PATIENCE, RECORDING_SHOWS, free_port


def test_the_first_page_is_served_before_a_policy_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []

    class Blocks:
        """Notes what becomes of the app."""

        def launch(self, **settings: Any) -> None:
            # Else it would come back only when the app ends.
            assert settings["prevent_thread_lock"]
            done.append("served")

        def block_thread(self) -> None:
            done.append("stays")
            waiting.until(lambda: {"policy", "table"} <= set(done), 60)

    class Catalogue(FakeCatalogue):
        """Loads nothing."""

        def warm(self) -> None:
            done.append("policy")

    class Simulators(FakeSimulators):
        """Starts nothing."""

        def open(self) -> None:
            done.append("simulator")

    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.setenv("PORT", "7860")
    monkeypatch.setattr(sys, "argv", ["app.py"])
    monkeypatch.setattr(app, "Simulators", Simulators)
    monkeypatch.setattr(app, "AgentCatalogue", Catalogue)
    monkeypatch.setattr(app, "_fill", lambda filling: done.append("table"))
    monkeypatch.setattr(app, "FIRST_PAGE_SECONDS", 0.2)
    monkeypatch.setattr(site, "build", lambda simulators, catalogue, progress: Blocks())
    app.main()
    assert done[:3] == ["simulator", "served", "stays"]
    assert sorted(done[3:]) == ["policy", "table"]


# On a busy machine the usual five seconds may pass before a browser has drawn anything.
PATIENT_APP = "import app; app.FIRST_PAGE_SECONDS = 3600.0; app.main()"


@pytest.mark.long
def test_a_film_plays_and_its_result_stands_while_torch_is_not_imported(
    page: Any, tmp_path: Path
) -> None:
    port = free_port()
    own = {"VLM4VLA_HOME": str(tmp_path), "HOST": "127.0.0.1", "PORT": str(port)}
    page.set_default_timeout(PATIENCE)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", PATIENT_APP],
        cwd=Path(app.__file__).parent,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        waiting.Output(process).line(f"http://127.0.0.1:{port}", 180)
        served = time.perf_counter()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector(LIVE)
        page.wait_for_function(RECORDING_SHOWS)
        playing = time.perf_counter()
        told = page.locator(".lv-events [data-event=success]").inner_text()
        assert told.startswith("success, step ")
        label = page.get_attribute(".lv-view", "aria-label")
        assert label is not None and label.startswith("Recording: The robot put ")
        assert page.inner_text(".lv-note").startswith("Recorded earlier.")
        libraries = Path(f"/proc/{process.pid}/maps").read_text()
        assert "pydantic_core" in libraries
        assert "libtorch" not in libraries
        print(f"served after {served - begun:.1f} s, the film played after {playing - begun:.1f} s")
        page.goto("about:blank")
    finally:
        process.terminate()
        process.wait(30)
