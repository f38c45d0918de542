import numpy as np

from vlm4vla.data.lerobot import statistics


def test_numbers_worked_out_by_hand():
    found = statistics.of_values(np.array([[0.0, 4.0], [1.0, 4.0], [2.0, 4.0], [5.0, 4.0]]))
    assert found["min"] == [0.0, 4.0]
    assert found["max"] == [5.0, 4.0]
    assert found["mean"] == [2.0, 4.0]
    assert np.allclose(found["std"], [np.sqrt(3.5), 0.0])  # (4 + 1 + 0 + 9) / 4
    assert found["count"] == [4]
    assert found["q50"] == [1.5, 4.0]
    assert np.allclose(found["q10"], [0.3, 4.0])


def test_integers_keep_integer_extremes():
    found = statistics.of_values(np.array([3, 1, 2]))
    assert found["min"] == [1] and isinstance(found["min"][0], int)
    assert found["max"] == [3] and isinstance(found["max"][0], int)


def test_many_components_are_treated_alike():
    values = np.random.default_rng(0).normal(size=(50, 130)).astype(np.float32)
    found = statistics.of_values(values)
    assert np.allclose(found["q90"], np.quantile(values.astype(np.float64), 0.9, axis=0))


def test_pictures_agree_with_their_pixels():
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    images[..., 2] = 51
    found = statistics.of_levels(statistics.levels(images), 3)
    pixels = images.reshape(-1, 3) / 255
    assert np.shape(found["mean"]) == (3, 1, 1)
    assert found["count"] == [3]
    assert np.allclose(np.ravel(found["mean"]), pixels.mean(axis=0))
    assert np.allclose(np.ravel(found["std"]), pixels.std(axis=0), atol=1e-7)
    assert np.allclose(np.ravel(found["min"]), pixels.min(axis=0))
    assert np.allclose(np.ravel(found["max"]), pixels.max(axis=0))
    assert np.allclose(np.ravel(found["q50"]), np.quantile(pixels, 0.5, axis=0), atol=0.02)
    assert found["q01"][2] == [[0.2]]
