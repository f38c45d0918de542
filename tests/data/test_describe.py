import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from vlm4vla.data.describe import BINS, Counts, counts, draw_histograms, histograms, write_page
from vlm4vla.data.lerobot.reader import open_dataset


def test_histograms_put_each_value_into_its_bin():
    actions = np.zeros((3, 7), np.float32)
    actions[:, 0] = (-1.0, 1.0, 0.0)
    found = histograms(actions)
    assert found.shape == (7, BINS)
    assert np.flatnonzero(found[0]).tolist() == [0, BINS // 2, BINS - 1]
    assert found[1, BINS // 2] == 3


def test_counts_agree_with_the_recordings(dataset, recordings):
    opened = open_dataset(dataset)
    picks = [row for row in opened.episodes if row.info.task == "pick"]
    mine = [recording for recording in recordings if recording.info.task == "pick"]
    found = counts(picks, opened.column("label.noisy"), opened.column("next.success"))
    frames = sum(map(len, mine))
    assert found == Counts(
        episodes=2,
        frames=frames,
        success=float(np.mean([recording.success[-1] for recording in mine])),
        noisy=pytest.approx(sum(recording.noisy.sum() for recording in mine) / frames),
        near=float(np.mean([recording.info.start is not None for recording in mine])),
        labels=sum(np.prod(recording.chunks.shape[:2]) for recording in mine),
    )


def test_the_page_links_to_small_pictures_that_are_there(dataset, tmp_path):
    page = write_page(open_dataset(dataset), tmp_path / "docs", "make it")
    text = page.read_text()
    assert "$" not in text and "Made by `make it`" in text
    for name in ("data/episodes.png", "data/actions.svg"):
        assert f"]({name})" in text
        assert 0 < (page.parent / name).stat().st_size < 300_000
    with Image.open(page.parent / "data/episodes.png") as picture:
        assert picture.size == (6 * 128, 10 * 128)  # five tasks, two episodes each
    root = ElementTree.fromstring((page.parent / "data/actions.svg").read_text())
    assert sum(element.tag.endswith("polyline") for element in root) == 7


def test_a_histogram_of_nothing_is_drawn():
    nothing = np.zeros((7, BINS), np.int64)
    ElementTree.fromstring(draw_histograms(nothing, nothing))
