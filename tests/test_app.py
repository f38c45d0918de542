"""`python app.py` as a visitor of a machine without a renderer finds it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pages.conftest import LIVE, PATIENCE, RECORDING_SHOWS, app_process

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    # Python holds output to a pipe back unless it is told otherwise, as on most machines.
    kept = {k: value for k, value in os.environ.items() if k != "PYTHONUNBUFFERED"}
    no_driver = str(tmp_path / "no-driver.json")
    with app_process(
        ROOT, {**kept, "VLM4VLA_HOME": str(tmp_path), "VK_DRIVER_FILES": no_driver}
    ) as url:
        yield url


def test_without_a_renderer_recordings_play_and_run_is_disabled_with_the_reason(
    page: Any, address: str
) -> None:
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(address)
    page.wait_for_selector(LIVE)
    page.wait_for_selector("#run[disabled]")
    banner = page.inner_text("#banner")
    assert "Recordings only" in banner
    assert "unset VK_DRIVER_FILES" in banner
    assert page.inner_text(".lv-phase") == "recording"
    page.wait_for_function(RECORDING_SHOWS)
    assert not page.is_visible("#chips")
    # The other recordings can be watched, each with its card.
    button = page.locator("#recorded button").last
    sentence = button.inner_text()
    button.click()
    page.wait_for_selector(".result-card[data-run]")
    assert page.inner_text(".lv-instruction") == f"“{sentence}”"
    assert page.inner_text(".lv-phase") == "recording"
    assert page.is_disabled("#run")
    assert complaints == []


def test_a_table_that_cannot_be_read_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "episodes.sqlite").write_text("no table, but long enough" * 50)
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, "VLM4VLA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("app.py: ") and "episodes.sqlite" in done.stderr
    assert "Traceback" not in done.stderr


def test_mcp_tools_are_refused_with_the_command_that_brings_them() -> None:
    # One that happens to be installed must not be found.
    program = (
        "import importlib.util as util, sys; find = util.find_spec;"
        "util.find_spec = lambda name, *a: None if name == 'mcp' else find(name, *a);"
        "import app; app.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "MCP": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 2
    assert "pip install 'gradio[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr
