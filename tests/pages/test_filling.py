"""A page that is opened before the episodes that come with the app are in the table."""

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
    left: list[tuple[int, int]] = [(3, 50)]
    with serve(FakeSimulators(), FakeCatalogue(), lambda: left[-1] if left else None) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}ablations")
        page.wait_for_selector(f"#filling p:has-text('{SENTENCE.format(3, 50)}')")
        left.append((4, 50))
        page.wait_for_selector("#filling p:has-text('4 of 50 files')")
        page.wait_for_selector("#ablation-empty")
        EpisodeTable().put(example(0), [EVALUATION])
        left.clear()
        page.wait_for_selector("#ablation .ab-matrix")
        page.wait_for_selector("#filling p", state="hidden")
        page.goto("about:blank")
