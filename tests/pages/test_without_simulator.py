"""The app in a browser where the simulator's packages are not installed: all pages but Run work."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.pages.conftest import app_process, page_without_errors
from tests.pages.test_access import LOOKS
from tests.system.test_without_simulator import BLOCKED, ROOT
from vlm4vla.episodes.parquet import import_, pending
from vlm4vla.episodes.start import SHIPPED
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.labelling import label_missing

EPISODES = "internvl-tiny-known.parquet"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One backbone's evaluation is in the table, and nothing else is to come."""
    table = EpisodeTable(tmp_path / "home" / "table")
    for path, mark in pending(table, SHIPPED):
        if path.name == EPISODES:
            import_(path, table)
        table.mark_imported(mark, path.name)
    label_missing(table)
    table.database.close()
    # Python reads this file before anything else, in every child process as well.
    (tmp_path / "sitecustomize.py").write_text(BLOCKED.replace(", 'torch'", ""))
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "VLM4VLA_HOME": str(tmp_path / "home"), "PYTHONPATH": path}


def test_every_page_but_run_shows_its_content(browser: Any, environment: dict[str, str]) -> None:
    with (
        app_process(ROOT, environment) as url,
        page_without_errors(browser, LOOKS["light"]) as page,
    ):
        page.goto(url)
        page.wait_for_selector("text=Recordings only")
        told = page.inner_text(".message >> text=Recordings only")
        assert "is missing" in told and "[sim]" in told and "Vulkan" not in told
        assert page.is_disabled("#run")
        # A recording plays all the same.
        page.wait_for_function("document.querySelector('video')?.currentTime > 0")
        page.goto(f"{url}failures?agent=all&condition=all")
        page.wait_for_selector(".failures[data-shown] .fl-wall [role=listitem]")
        failure = page.get_attribute(".fl-wall a[href*='run=']", "href").split("run=")[1]
        page.goto(f"{url}inspect?run={failure}")
        # Lanes and the table from above come from numbers; what needs pictures says so.
        page.wait_for_selector(
            ".inspect-view[data-run] .iv-lanes svg, .inspect-view[data-run] canvas"
        )
        page.wait_for_selector(":text('Pictures cannot be drawn here')")
        page.goto(f"{url}compare")
        page.wait_for_selector("#compare .cp-message:not([hidden]), #compare .cp-card")
        page.goto(f"{url}encoders")
        page.wait_for_selector(".js-plotly-plot .main-svg")
        page.goto(f"{url}ablations")
        page.wait_for_selector("#paper-charts .js-plotly-plot .main-svg")
        page.goto(f"{url}about")
        page.wait_for_selector("table >> text=internvl-tiny")
