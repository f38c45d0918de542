import numpy as np

from vlm4vla.train.objectives.imitation import vary


def test_no_variation_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert (vary(images, np.random.default_rng(0), 0.0) == images).all()


def test_brightness_keeps_hues():
    image = np.full((1, 4, 4, 3), (200, 40, 40), np.uint8)
    for seed in range(20):
        red, green, blue = vary(image, np.random.default_rng(seed), 0.15)[0, 0, 0].tolist()
        assert green == blue
        assert red - green > 120
        assert (red, green) != (200, 40)
