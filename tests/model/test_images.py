import types

import numpy as np
import pytest
import torch
from PIL import Image
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
    picture = torch.full((1, 16, 16, 3), 100.0, requires_grad=True)
    to_pixels(picture, 16, HALF, CPU).sum().backward()
    assert torch.allclose(picture.grad, torch.tensor(2 / 255))
    to_pixels(picture, 32, HALF, CPU).sum().backward()
    # Each of the 16 x 16 numbers now stands for four.
    assert picture.grad.sum().item() == pytest.approx(5 * 3 * 256 * 2 / 255, rel=1e-4)


@pytest.mark.parametrize("shape", [(128, 128, 3), (1, 3, 128, 128), (1, 0, 128, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match="batch, height, width, 3"):
        to_pixels(np.zeros(shape, np.uint8), 128, HALF, CPU)
