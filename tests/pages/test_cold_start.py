"""What happens first where nothing is warm yet."""

import sys
from pathlib import Path
from typing import Any

import pytest

import app
from pages import site
from tests import waiting
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators


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
