"""Pictures as bytes: lossless PNG for training, H.264 for people."""

import io
import struct
import tempfile
import zlib
from fractions import Fraction
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_UP: Final = 2
"""The PNG filter that stores each row as the difference to the row above."""


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encodes one picture losslessly.

    Pillow tries every filter on every row and takes more than twice as long; one filter for all
    rows and run-length matching make files of about the same size.

    Args:
        image: (height, width, 3) uint8 RGB.
    """
    height, width, _ = image.shape
    rows = image.reshape(height, -1)
    filtered = np.empty((height, 1 + 3 * width), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 8, zlib.Z_RLE)
    packed = packer.compress(filtered.data) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [_SIGNATURE, _block(b"IHDR", header), _block(b"IDAT", packed), _block(b"IEND", b"")]
    )


def _block(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def decode_image(encoded: bytes) -> NDArray[np.uint8]:
    """Decodes PNG (or any format that Pillow knows) to (height, width, 3) uint8 RGB.

    Raises:
        OSError: the bytes are not a whole picture.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise OSError("its bytes are no picture") from error
    except SyntaxError as error:  # Pillow's word for a broken PNG checksum
        raise OSError(str(error)) from error


def encode_preview(images: NDArray[np.uint8], fps: int) -> bytes:
    """Encodes frames as an MP4 that browsers play (H.264, 4:2:0) before they have all of it.

    Args:
        images: (T, height, width, 3) uint8 RGB with even height and width.
        fps: frames a second.
    """
    # In a file: FFmpeg opens it again to move the index to the front.
    with tempfile.NamedTemporaryFile(suffix=".mp4") as target:
        with av.open(target.name, "w", options={"movflags": "+faststart"}) as container:
            # One thread: the bytes then do not depend on the machine's number of cores.
            options = {"preset": "veryfast", "crf": "20", "threads": "1"}
            stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
            stream.height, stream.width = images.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        return target.read()
