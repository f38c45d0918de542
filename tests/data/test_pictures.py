import io

import av
import numpy as np
import pytest
from PIL import Image

from vlm4vla.data.pictures import decode_image, encode_png, encode_preview

RANDOM = np.random.default_rng(0)
PICTURES = {
    "noise": RANDOM.integers(0, 256, (128, 128, 3), dtype=np.uint8),
    "flat": np.zeros((128, 128, 3), np.uint8),
    "wide": RANDOM.integers(0, 256, (3, 7, 3), dtype=np.uint8),
    "one pixel": np.array([[[1, 2, 3]]], np.uint8),
}


@pytest.mark.parametrize("name", PICTURES)
def test_png_is_lossless_and_pillow_reads_it(name):
    encoded = encode_png(PICTURES[name])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded))), PICTURES[name])
    assert np.array_equal(decode_image(encoded), PICTURES[name])


def test_broken_pictures_raise():
    encoded = bytearray(encode_png(PICTURES["noise"]))
    with pytest.raises(OSError):
        decode_image(bytes(encoded[:2000]))
    with pytest.raises(OSError):
        decode_image(b"no picture")


def test_preview_is_h264_that_browsers_play_and_the_same_every_time():
    frames = np.stack([np.full((128, 128, 3), 20 * i, np.uint8) for i in range(10)])
    film = encode_preview(frames, 20)
    assert film == encode_preview(frames, 20)
    with av.open(io.BytesIO(film)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 20
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(stream)]
    assert np.allclose(levels, [20 * i for i in range(10)], atol=4)


def test_a_film_plays_before_the_browser_has_all_of_it():
    film = encode_preview(np.zeros((20, 64, 64, 3), np.uint8), 20)
    assert 0 < film.find(b"moov") < film.find(b"mdat")
