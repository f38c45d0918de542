import numpy as np

from vlm4vla.train.imitation import vary


def test_no_variation_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert (vary(images, np.random.default_rng(0), 0, 0.0) == images).all()


def test_a_shift_moves_the_picture_and_repeats_its_edge():
    image = np.zeros((1, 6, 6, 3), np.uint8)
    image[0, 2, 3] = 200
    seen = set()
    for seed in range(60):
        moved = vary(image, np.random.default_rng(seed), 1, 0.0)
        rows, columns = np.nonzero(moved[0, ..., 0])
        assert len(rows) == 1
        seen.add((int(rows[0]) - 2, int(columns[0]) - 3))
    assert seen == {(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)}
    edge = np.zeros((1, 4, 4, 3), np.uint8)
    edge[:, :, 0] = 90
    widths = {
        int((vary(edge, np.random.default_rng(s), 1, 0.0)[0, 0, :, 0] > 0).sum()) for s in range(30)
    }
    assert widths == {0, 1, 2}


def test_brightness_keeps_hues():
    image = np.full((1, 4, 4, 3), (200, 40, 40), np.uint8)
    for seed in range(20):
        red, green, blue = vary(image, np.random.default_rng(seed), 0, 0.15)[0, 0, 0].tolist()
        assert green == blue
        assert red - green > 120
        assert (red, green) != (200, 40)
