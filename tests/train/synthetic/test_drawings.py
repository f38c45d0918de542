import colorsys

import numpy as np
import pytest

from vlm4vla.suites.tabletop.vocabulary import COLOURS, SHAPES, colour_of, kind_of
from vlm4vla.train.synthetic.drawings import PIXELS, draw_picture


@pytest.fixture(scope="module")
def pictures():
    return [draw_picture(seed) for seed in range(60)]


def test_a_seed_gives_the_same_picture_again(pictures):
    again = draw_picture(7)
    assert (again.image == pictures[7].image).all()
    assert (again.segmentation == pictures[7].segmentation).all()
    assert again.items == pictures[7].items
    assert not (pictures[7].image == pictures[8].image).all()


def test_shapes_types_and_unique_names(pictures):
    for picture in pictures:
        assert picture.image.shape == (PIXELS, PIXELS, 3)
        assert picture.image.dtype == np.uint8
        assert picture.segmentation.shape == (PIXELS, PIXELS)
        names = [item.name for item in picture.items]
        assert len(set(names)) == len(names)
        assert set(np.unique(picture.segmentation)) <= {-1, *range(len(names))}


def test_every_named_thing_shows_at_least_fifty_pixels(pictures):
    for picture in pictures:
        for index in range(len(picture.items)):
            assert (picture.segmentation == index).sum() >= 40


def test_centres_of_solids_lie_on_the_solids(pictures):
    on = []
    for picture in pictures:
        for index, item in enumerate(picture.items):
            if kind_of(item.name) in SHAPES:
                ys, xs = np.nonzero(picture.segmentation == index)
                on.append(np.hypot(xs.mean() + 0.5 - item.x, ys.mean() + 0.5 - item.y))
    assert len(on) > 100
    # Occlusion moves the visible part's centre of some; the geometry alone moves it by about 1.
    assert np.median(on) < 1.0
    assert np.quantile(on, 0.9) < 3.0


def test_solids_are_as_wide_as_in_the_policy_camera(pictures):
    widths = []
    for picture in pictures:
        for index, item in enumerate(picture.items):
            if kind_of(item.name) == "ball":
                widths.append(np.sqrt((picture.segmentation == index).sum() / np.pi) * 2)
    assert 10 < np.median(widths) < 18


def test_hues_belong_to_their_words(pictures):
    """The hue of most pixels of a thing is nearer to its own word's than to any other's."""
    hues = {word: colorsys.rgb_to_hsv(*np.power(rgb, 1 / 2.2))[0] for word, rgb in COLOURS.items()}
    right = 0
    total = 0
    for picture in pictures:
        for index, item in enumerate(picture.items):
            pixels = picture.image[picture.segmentation == index].astype(float) / 255
            hue = colorsys.rgb_to_hsv(*np.median(pixels, axis=0))[0]
            away = {word: min(abs(hue - h), 1 - abs(hue - h)) for word, h in hues.items()}
            right += min(away, key=away.get) == colour_of(item.name)
            total += 1
    assert right / total > 0.97
