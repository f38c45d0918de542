"""A recording on the Run page: the film, and what the model saw in step with it."""

from pathlib import Path
from typing import Any

import pytest

from pages.site import RECORDINGS
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.live.test_recordings import frames
from tests.pages.conftest import LIVE, PATIENCE, serve, wait_for_phase
from vlm4vla.episodes.archive import Archive

SEEK = """async (time) => {
    const live = document.querySelector('.live-view[data-ready]');
    const film = live.querySelector('.lv-video');
    film.pause();
    film.currentTime = time;
    for (let tries = 0; tries < 600; tries += 1) {
        await new Promise((then) => setTimeout(then, 100));
        if (Math.abs(Number(live.dataset.seen) - time) < 0.03 && !film.seeking) break;
    }
    const eye = live.querySelector('.lv-eye');
    const shown = eye.getContext('2d').getImageData(0, 0, eye.width, eye.height).data;
    return Array.from(shown).filter((_, index) => index % 4 < 3);
}"""
"""Parks the film and gives the pixels that stand as what the model sees."""


@pytest.mark.usefixtures("size")
def test_what_the_model_saw_plays_in_step_and_is_called_recorded(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    recordings = Archive.bundled(RECORDINGS)
    seen = recordings.films.seen(recordings.oldest_first()[0])
    assert seen is not None
    known = frames(seen)
    with serve(FakeSimulators(), FakeCatalogue()) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(url)
        page.wait_for_selector(LIVE)
        if not page.evaluate(
            "document.createElement('video').canPlayType('video/mp4; codecs=avc1')"
        ):
            pytest.skip("this browser plays no H.264; the last picture stands there")
        page.wait_for_selector(f"{LIVE}[data-seen]")
        assert page.inner_text(".lv-model figcaption").startswith("What the model sees (recorded).")
        assert page.inner_text(".lv-phase") == "recording"
        # 20 pictures a second: the middle of the first one, and of the twentieth.
        for frame in (0, 19):
            shown = page.evaluate(SEEK, (frame + 0.5) / 20)
            apart = [abs(one.ravel() - shown).mean() for one in known]
            assert apart[frame] < 4
            assert apart[frame] == min(apart)
        page.click("#chips button")
        wait_for_phase(page, "success", "failure")
        assert page.inner_text(".lv-model figcaption").startswith("What the model sees. ")
        # What is live is not painted over.
        before = page.get_attribute(LIVE, "data-seen")
        page.wait_for_timeout(500)
        assert page.get_attribute(LIVE, "data-seen") == before
        page.goto("about:blank")
