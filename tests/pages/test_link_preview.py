"""What a link to the app unfurls as, read as a chat program reads it: without running a script."""

import io
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pages import link_preview, site
from tests.eval.examples import EPISODE, SPEC
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import serve
from vlm4vla.core.episode import Outcome
from vlm4vla.data.pictures import encode_preview
from vlm4vla.episodes.archive import Archive


class Head(HTMLParser):
    """The tags of a page's head by name, each with all of its contents."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: dict[str, list[str]] = {}
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "meta" and (name := found.get("property") or found.get("name")):
            self.tags.setdefault(name, []).append(found.get("content") or "")

    def handle_data(self, data: str) -> None:
        self.scripts.append(data)


@pytest.fixture(scope="module")
def web() -> Iterator[httpx.Client]:
    with (
        serve(FakeSimulators(), FakeCatalogue()) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        yield client


def head(web: httpx.Client, path: str) -> dict[str, str]:
    answer = web.get(path)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    tags = Head(answer.text).tags
    told = {name: found for name, found in tags.items() if name.startswith(("og:", "twitter:"))}
    assert all(len(found) == 1 for found in told.values()), told
    assert "gradio" not in str(told).lower() and "{url}" not in str(told)
    return {name: found[0] for name, found in told.items()} | {
        "description": tags["description"][-1]
    }


def picture(web: httpx.Client, address: str) -> Any:
    answer = web.get(address)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize(
    "path", ["/", "/about", "/?run=../../etc/passwd", "/?run=0000000000000000"]
)
def test_the_app_unfurls_by_its_own_name(web: httpx.Client, path: str) -> None:
    told = head(web, path)
    assert told["og:title"].startswith("VLM4VLA: ")
    assert told["og:title"] == told["twitter:title"]
    assert "vision-language model" in told["og:description"]
    assert told["twitter:card"] == "summary_large_image"
    assert told["og:image"] == told["twitter:image"] == f"{web.base_url}preview/app.jpg"
    assert picture(web, told["og:image"]).shape == (630, 1200, 3)


def test_a_link_to_an_episode_unfurls_as_its_sentence_result_and_picture(web: httpx.Client) -> None:
    archive = Archive.open()
    sentence = 'lift the "red" <b>cube</b> & wait'
    asked = replace(SPEC, instruction=sentence)
    failed = replace(EPISODE, spec=asked, outcome=Outcome("wrong_object", "It lifted another."))
    archive.table.put(failed)
    blue = np.zeros((4, 64, 64, 3), np.uint8)
    blue[..., 2] = 255
    archive.films.put(failed.id, encode_preview(blue, 20))
    told = head(web, f"/?run={failed.id}")
    assert told["og:title"] == f"“{sentence}”: not done (wrong object) | VLM4VLA"
    assert told["og:description"].startswith("It lifted another. expert, scene pick 7, 2 steps.")
    assert told["og:url"] == f"{web.base_url}?run={failed.id}"
    assert told["og:image"] == f"{web.base_url}preview/{failed.id}.jpg"
    drawn = picture(web, told["og:image"])
    assert drawn.shape == (630, 1200, 3)
    # The film's last picture on the left, words on white on the right.
    assert (np.abs(drawn[100:500, 100:500].astype(int) - [0, 0, 255]).max(-1) < 60).all()
    assert (drawn[100:500, 660:] < 90).any() and (drawn[600:, 660:] > 240).all()


def test_recordings_unfurl_too_and_what_is_no_episode_has_no_picture(web: httpx.Client) -> None:
    recordings = Archive.bundled(site.RECORDINGS)
    episode = recordings.table.get(recordings.oldest_first()[0])
    told = head(web, f"/?run={episode.id}")
    assert episode.spec.instruction in told["og:title"] and ": success" in told["og:title"]
    assert picture(web, told["og:image"]).shape == (630, 1200, 3)
    assert web.get("/preview/0000000000000000.jpg").status_code == 404
    assert web.get("/preview/..%2Fapp.jpg").status_code == 404


def test_a_program_may_ask_whether_a_picture_is_there(web: httpx.Client) -> None:
    there = web.head("/preview/app.jpg")
    assert there.status_code == 200 and there.headers["content-type"] == "image/jpeg"
    assert web.head("/preview/0000000000000000.jpg").status_code == 404


def test_a_film_that_cannot_be_read_leaves_the_words(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"no film")
    drawn = np.asarray(Image.open(io.BytesIO(link_preview._drawn(EPISODE, film))))
    assert drawn.shape == (630, 1200, 3) and (drawn < 90).any()
