"""All pages together."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages import site
from pages.run import moments
from pages.run.live_view import Shown, happened
from tests.pages.conftest import LIVE, Served
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.core.episode import Event, Outcome
from vlm4vla.episodes.archive import Archive
from vlm4vla.live.session import Frame
from vlm4vla.live.simulators import Simulators


def test_no_event_reaches_from_one_page_to_another(served: Served) -> None:
    """Gradio builds such an event without error, and it does nothing."""
    config = site.build(Simulators(places=1), AgentCatalogue(roots=())).get_config_file()
    homes = {part: name for name, page in config["page"].items() for part in page["components"]}
    assert len(config["page"]) >= 2
    for event in config["dependencies"]:
        parts = [*event["inputs"], *event["outputs"], *[t[0] for t in event["targets"] if t[0]]]
        assert len({homes[part] for part in parts if part in homes}) <= 1


def test_about_tells_what_the_machine_can_do_and_no_folder_of_it(
    page: Any, served: Served, data_folder: Path
) -> None:
    page.set_default_timeout(180_000)
    page.goto(served.url)
    page.wait_for_selector(LIVE)
    page.click("nav >> text=About")
    page.wait_for_selector("#machine >> text=test render", state="attached")
    page.click("#machine summary")
    told = page.inner_text("body")
    assert "a picture" in told
    assert str(data_folder) not in told
    page.go_back()
    page.wait_for_selector(LIVE)


def test_the_recordings_that_come_with_the_app_are_whole() -> None:
    recordings = Archive.bundled(site.RECORDINGS)
    assert len(recordings.oldest_first()) >= 5
    for run_id in recordings.oldest_first():
        episode = recordings.table.get(run_id)
        assert episode.outcome.success
        film = recordings.films.path(episode.id)
        assert film is not None
        assert film.stat().st_size < 1_000_000


@pytest.mark.parametrize(("folder", "most"), [("rounds", 12), ("results", 60), ("", 15)])
def test_what_comes_with_the_app_is_small(folder: str, most: int) -> None:
    assets = site.RECORDINGS.parent
    apart = [] if folder else [assets / "rounds", assets / "results"]
    files = [
        file
        for file in (assets / folder).rglob("*")
        if file.is_file() and not any(one in file.parents for one in apart)
    ]
    assert 0 < sum(file.stat().st_size for file in files) < most * 10**6


def boxes(film: Path) -> list[str]:
    """The top-level parts of an MP4, in order."""
    content, place, found = film.read_bytes(), 0, []
    while place < len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        found.append(name.decode())
        place += size
    return found


def test_every_shipped_film_begins_to_play_before_all_of_it_is_there() -> None:
    films = list(site.RECORDINGS.parents[1].glob("[!.]*/**/*.mp4"))
    assert len(films) >= 5
    for film in films:
        parts = boxes(film)
        assert parts.index("moov") < parts.index("mdat"), film


def test_an_event_that_happens_again_is_shown_once_with_its_count() -> None:
    events = [Event(3, "grasped"), Event(9, "dropped"), Event(12, "dropped"), Event(30, "dropped")]
    assert happened([*events, Event(31, "wrong_object")]) == [
        ("grasped", "grasped, step 3"),
        ("dropped", "dropped 3 times, steps 9 to 30"),
        ("wrong_object", "wrong object, step 31"),
    ]


def test_the_pictures_name_for_those_who_cannot_see_it_follows_what_is_shown() -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    shown = Shown(1, "live", agent="somebody", instruction="lift it", label="Recording: it fell.")
    live = moments.at(shown, Frame(picture, picture, 3, 60, (), 1.0, 1.0, 1.0))
    assert live.label == "Live picture: somebody carries out “lift it”"
    assert moments.ended(live, Outcome("success", "It was lifted.")).label == "It was lifted."
