"""A page that is opened before the episodes that come with the app are in the table."""

import threading
from typing import Any

from pages.filling import SENTENCE
from tests.episodes.examples import EVALUATION, example
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import PATIENCE, serve
from vlm4vla.episodes.table import EpisodeTable


def test_a_page_says_that_episodes_are_coming_and_shows_them_when_they_are_there(
    page: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    whole = threading.Event()
    with serve(FakeSimulators(), FakeCatalogue(), whole.is_set) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}ablations")
        page.wait_for_selector(f"#filling p:has-text('{SENTENCE[:40]}')")
        page.wait_for_selector("#ablation-empty")
        EpisodeTable().put(example(0), [EVALUATION])
        whole.set()
        page.wait_for_selector("#ablation .ab-matrix")
        page.wait_for_selector("#filling p", state="hidden")
        page.goto("about:blank")
