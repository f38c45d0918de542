import io
import types

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vlm4vla.errors import UserError
from vlm4vla.model import qwen
from vlm4vla.model.family import CLIP, HALF
from vlm4vla.model.images import to_pixels

CPU = torch.device("cpu")


def test_normalisation_by_hand():
    picture = np.full((1, 8, 8, 3), 255, np.uint8)
    picture[..., 1] = 0
    pixels = to_pixels(picture, 8, HALF, CPU)
    assert pixels.shape == (1, 3, 8, 8)
    assert pixels[0, :, 0, 0].tolist() == [1, -1, 1]


def test_every_frame_passes_through_224_first(pictures):
    # The paper resizes to 224 with PIL's bicubic filter and then to the size of the tower.
    wanted = [
        np.asarray(Image.fromarray(p).resize((224, 224), 3).resize((448, 448), 3)) for p in pictures
    ]
    pixels = to_pixels(pictures, 448, HALF, CPU)
    found = ((pixels * 0.5 + 0.5) * 255).round().permute(0, 2, 3, 1).numpy()
    assert abs(found - np.stack(wanted)).max() <= 3
    assert abs(found - np.stack(wanted)).mean() < 0.25


def test_a_picture_of_the_right_size_is_not_touched(pictures):
    pixels = to_pixels(pictures, 128, HALF, CPU)
    found = ((pixels * 0.5 + 0.5) * 255).round().permute(0, 2, 3, 1).numpy()
    assert (found == pictures).all()


@pytest.mark.parametrize("merge", [1, 2])
def test_patches_are_those_of_the_shipped_processor(pictures, merge):
    shipped = Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=merge, size={"shortest_edge": 128**2, "longest_edge": 128**2}
    )
    wanted = shipped(images=list(pictures), return_tensors="pt")
    vision = types.SimpleNamespace(
        patch_size=16, spatial_merge_size=merge, temporal_patch_size=2, image_size=128
    )
    found = qwen.pixels(
        to_pixels(pictures, 128, CLIP, CPU), types.SimpleNamespace(vision_config=vision)
    )
    torch.testing.assert_close(found["pixel_values"], wanted["pixel_values"], atol=1e-5, rtol=0)
    assert found["image_grid_thw"].tolist() == wanted["image_grid_thw"].tolist()


def test_gradients_reach_float_pictures():
    picture = torch.full((1, 16, 16, 3), 0.4, requires_grad=True)
    to_pixels(picture, 16, HALF, CPU).sum().backward()
    assert torch.allclose(picture.grad, torch.tensor(2.0))
    to_pixels(picture, 32, HALF, CPU).sum().backward()
    # Each of the 16 x 16 numbers now stands for four.
    assert picture.grad.sum().item() == pytest.approx(5 * 3 * 256 * 2, rel=1e-4)


@pytest.mark.parametrize(
    "shape", [(128, 128), (1, 3, 128, 128), (1, 0, 128, 3), (0, 128, 128, 3), (8, 8, 4), (2, 2)]
)
def test_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match=r"batch, height, width, 3\), not"):
        to_pixels(np.zeros(shape, np.uint8), 128, HALF, CPU)


def test_what_is_unambiguous_means_the_same(pictures):
    wanted = to_pixels(pictures, 128, HALF, CPU)
    frozen = pictures.copy()
    frozen.flags.writeable = False
    for same in (
        torch.from_numpy(pictures),
        frozen,
        list(pictures),
        tuple(torch.from_numpy(picture) for picture in pictures),
        [Image.fromarray(picture) for picture in pictures],
        [pictures[:1], Image.fromarray(pictures[1]), pictures[2:]],
        np.asfortranarray(pictures),
        np.ascontiguousarray(pictures[:, :, ::-1])[:, :, ::-1],
    ):
        assert torch.equal(to_pixels(same, 128, HALF, CPU), wanted)
    for kind in (np.float32, np.float64, ">f4"):
        shares = (pictures / 255).astype(kind)
        assert (to_pixels(shares, 128, HALF, CPU) - wanted).abs().max() < 1e-5
    assert (
        to_pixels((pictures / 255).astype(np.float16), 128, HALF, CPU) - wanted
    ).abs().max() < 2e-3


def test_edges_overshoot_in_floats_no_more_than_in_whole_levels():
    lines = np.zeros((1, 128, 128, 3), np.uint8)
    lines[:, :, ::16] = lines[:, ::16] = 255
    whole = to_pixels(lines, 64, HALF, CPU)
    floats = to_pixels((lines / 255).astype(np.float32), 64, HALF, CPU)
    # A level is 2 / 255; rounding twice moves a pixel by one at most.
    assert (floats - whole).abs().max() <= 2 / 255 + 1e-6
    assert floats.min() >= -1 and floats.max() <= 1


def test_one_picture_is_a_batch_of_one(pictures):
    wanted = to_pixels(pictures[:1], 128, HALF, CPU)
    for one in (pictures[0], Image.fromarray(pictures[0]), [pictures[0]]):
        assert torch.equal(to_pixels(one, 128, HALF, CPU), wanted)


def test_mixed_sizes_are_each_resized(pictures):
    small, wide = pictures[0][::2, ::2], pictures[1][:100]
    found = to_pixels([small, wide], 128, HALF, CPU)
    alone = [to_pixels(one[None], 128, HALF, CPU) for one in (small, wide)]
    assert torch.equal(found, torch.cat(alone))


def test_float_pictures_mean_the_same_whatever_their_values():
    # A picture of 0..255 that happens to be dark must not be taken for one of 0..1.
    black = to_pixels(np.zeros((1, 8, 8, 3), np.float32), 8, HALF, CPU)
    white = to_pixels(np.ones((1, 8, 8, 3), np.float32), 8, HALF, CPU)
    assert black.unique().tolist() == [-1]
    assert white.unique().tolist() == [1]


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.full((1, 8, 8, 3), 200, np.float32), r"within 0..1, not 200..200"),
        (np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 8, 8, 3), r"not -1..1"),
        (np.full((1, 8, 8, 3), np.nan, np.float32), "not NaN"),
        (np.full((1, 8, 8, 3), np.inf, np.float32), "within 0..1, not inf"),
        (np.zeros((1, 8, 8, 3), np.uint16), "not uint16"),
        (np.zeros((1, 8, 8, 3), np.int64), "not int64"),
        (np.zeros((1, 8, 8, 3), bool), "not bool"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.int32), "not int32"),
        (np.array([["a"]]), "not <U1"),
        (Image.new("RGBA", (8, 8)), "mode 'RGBA'"),
        (Image.new("I;16", (8, 8)), "mode 'I;16'"),
        ([], "no picture"),
        ([[1, 2], [3]], "not list"),
        ("picture.png", "not str"),
        (None, "not NoneType"),
        (np.zeros((1, 3, 8, 8), np.uint8), r"not \(1, 3, 8, 8\). Their colours come first"),
        (np.full((8, 8, 3), 1.00002, np.float64), r"not 1.00002..1.00002"),
        (np.ma.masked_array(np.zeros((8, 8, 3), np.uint8), mask=True), "masked array"),
        (torch.zeros(8, 8, 3).to_sparse(), "sparse"),
        (torch.zeros(8, 8, 3, device="meta"), "meta"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(picture, words):
    with pytest.raises(UserError, match=words):
        to_pixels(picture, 8, HALF, CPU)


def stored(picture, kind, share=1.0, **options):
    target = io.BytesIO()
    picture.save(target, kind, **options)
    content = target.getvalue()
    return Image.open(io.BytesIO(content[: int(share * len(content))]))


def test_a_picture_in_a_file_is_taken_for_the_whole_of_what_it_says(pictures):
    picture = Image.fromarray(pictures[0])
    wanted = to_pixels(pictures[:1], 128, HALF, CPU)
    assert torch.equal(to_pixels(stored(picture, "png"), 128, HALF, CPU), wanted)
    for broken in (stored(picture, "png", share=0.6), stored(picture, "jpeg", share=0.6)):
        with pytest.raises(UserError, match="cannot be read"):
            to_pixels(broken, 128, HALF, CPU)
    closed = stored(picture, "png")
    closed.close()
    with pytest.raises(UserError, match="cannot be read"):
        to_pixels(closed, 128, HALF, CPU)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    with pytest.raises(UserError, match=r"EXIF orientation\. Give PIL\.ImageOps"):
        to_pixels(stored(picture, "jpeg", exif=turned), 128, HALF, CPU)
    clear = (0, 0, 0)
    for see_through in (
        stored(picture, "png", transparency=clear),
        stored(picture.quantize(16), "png", transparency=3),
    ):
        with pytest.raises(UserError, match="and transparency is not one of 8-bit colours alone"):
            to_pixels(see_through, 128, HALF, CPU)
        advised = see_through.convert("RGBA").convert("RGB")
        assert len(to_pixels(advised, 128, HALF, CPU)) == 1


def test_patches_of_a_tower_that_merges_come_back_by_rows() -> None:
    vision = types.SimpleNamespace(
        patch_size=2, spatial_merge_size=2, temporal_patch_size=2, image_size=16
    )
    config = types.SimpleNamespace(vision_config=vision)
    rows = torch.arange(64.0).reshape(8, 8)
    pictures = rows.repeat_interleave(2, 0).repeat_interleave(2, 1).expand(2, 3, 16, 16)
    patches = qwen.pixels(pictures, config)["pixel_values"].reshape(2, 64, -1)
    assert patches[0, :5, 0].tolist() == [0, 1, 8, 9, 2]
    assert torch.equal(qwen.in_rows(patches, config)[1, :, 0], torch.arange(64.0))
