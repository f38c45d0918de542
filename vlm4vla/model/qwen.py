"""What the Qwen-VL families share: prompt, patches and picture grids."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vlm4vla.model.family import Rows

PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|>{image}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
)
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def side(config: Any) -> int:
    """448, where 224 is scaled up to by the processor's least size; a tiny config names its own."""
    return int(getattr(config.vision_config, "image_size", 448))


def image_tokens(config: Any) -> int:
    """One token for every merge x merge patches."""
    vision = config.vision_config
    return int(side(config) // (vision.patch_size * vision.spatial_merge_size)) ** 2


def in_rows(patches: Tensor, config: Any) -> Tensor:
    """Patches (B, side * side, ...) of a vision tower by rows, as they lie in the picture.

    Patches that are merged later stand next to each other in the tower; a tower that merges nothing
    has them by rows already. Qwen2.5-VL's looks through windows, and has those of one window next
    to each other.
    """
    vision = config.vision_config
    merge = getattr(vision, "spatial_merge_size", 1)
    side = int(patches.shape[1] ** 0.5) // merge
    groups = patches.unflatten(1, (side * side, merge * merge))
    if hasattr(vision, "fullatt_block_indexes"):
        window = vision.window_size // (vision.patch_size * merge)
        places = torch.arange(side * side).view(side, side)
        order = [part.flatten() for row in places.split(window) for part in row.split(window, 1)]
        groups = groups[:, torch.cat(order).argsort()]
    blocks = groups.unflatten(2, (merge, merge)).unflatten(1, (side, side))
    return blocks.transpose(2, 3).flatten(1, 4)


def _grid(count: int, config: Any, device: torch.device) -> Tensor:
    patches = side(config) // config.vision_config.patch_size
    return torch.tensor([[1, patches, patches]], device=device).repeat(count, 1)


def pixels(pictures: Tensor, config: Any) -> dict[str, Tensor]:
    """Flat patches (B * patches, 3 * time * patch * patch) and their grid (B, 3).

    Patches that are later merged into one token stand next to each other, and a still picture is
    repeated in time.
    """
    vision = config.vision_config
    patch, merge, time = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    batch, channels, size, _ = pictures.shape
    blocks = size // (patch * merge)
    cut = pictures.view(batch, channels, blocks, merge, patch, blocks, merge, patch)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    cut = cut.expand(*cut.shape[:6], time, *cut.shape[7:])
    return {
        "pixel_values": cut.reshape(-1, channels * time * patch * patch),
        "image_grid_thw": _grid(batch, config, pictures.device),
    }


def inputs(rows: Rows, config: Any) -> dict[str, Tensor]:
    """Token types, the grid of each row's picture, and M-RoPE's positions (3, R, L).

    The positions are those that the model would work out row by row: a picture's tokens take the
    same time and count rows and columns, and text goes on after the longer side.
    """
    side_tokens = int(image_tokens(config) ** 0.5)
    column = torch.arange(rows.ids.shape[1], device=rows.ids.device)
    start = rows.is_image[:1].int().argmax()
    place = (column - start).clamp(0, side_tokens**2 - 1)
    inside = torch.stack([place * 0, place // side_tokens, place % side_tokens]) + start
    after = column - side_tokens**2 + side_tokens
    ends = start + side_tokens**2
    positions = torch.where(column < start, column, torch.where(column < ends, inside, after))
    return {
        "mm_token_type_ids": rows.is_image.int(),
        "image_grid_thw": _grid(len(rows.ids), config, rows.ids.device),
        "position_ids": positions[:, None].expand(-1, len(rows.ids), -1),
    }


def special_ids(tokens: Mapping[str, int]) -> dict[str, Any]:
    """The ids that a Qwen-VL config names."""
    return {
        "image_token_id": tokens["<|image_pad|>"],
        "video_token_id": tokens["<|video_pad|>"],
        "vision_start_token_id": tokens["<|vision_start|>"],
        "vision_end_token_id": tokens["<|vision_end|>"],
    }
