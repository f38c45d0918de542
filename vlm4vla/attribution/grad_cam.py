"""Grad-CAM at a layer of the vision tower."""

import torch
from torch import Tensor

from vlm4vla.attribution.inputs import Question
from vlm4vla.attribution.internals import opened, outputs_of, patch_grid, vision_layers
from vlm4vla.attribution.score import Attribution, Explained, intact
from vlm4vla.attribution.target import Target, require_slope
from vlm4vla.errors import UserError


def grad_cam(
    policy: Explained, question: Question, target: Target, *, layer: int = -1
) -> Attribution:
    """Grad-CAM (Selvaraju et al. 2017): features weighted by their mean slopes, below 0 cut off.

    Scores are no part of the value, only shares of attention in arbitrary units.

    Args:
        policy: whom to explain.
        question: picture and sentence.
        target: the value.
        layer: of the vision tower, from 0, or from -1 backwards.

    Raises:
        UserError: the target has no slope, or the tower lacks such a layer or a grid of patches.
    """
    require_slope(target)
    inside = opened(policy)
    layers = list(vision_layers(inside).values())
    if not -len(layers) <= layer < len(layers):
        raise UserError(f"The vision tower has {len(layers)} layers, so none is {layer}.")
    before = intact(policy, question)
    # A frozen tower has slopes only if they start at the pixels.
    pixels = inside.pixels(question.picture[None]).requires_grad_()
    with torch.enable_grad(), outputs_of(layers[layer]) as seen:
        prediction = inside.predict(
            inside.encode_pixels(pixels), inside.prompt([question.instruction])
        )
        value = target.of(prediction, before, inside.spec)
        [slopes] = torch.autograd.grad(value.sum(), seen, allow_unused=True)
    if slopes is None:
        raise UserError(
            f"Nothing reads layer {layer} of the vision tower of {inside.vlm.family.name}.",
            "Choose an earlier layer.",
        )
    width = seen[0].shape[-1]
    scores = class_activation(seen[0].reshape(-1, width), slopes.reshape(-1, width))
    return Attribution(patch_grid(inside, scores), float(value.detach()))


def class_activation(states: Tensor, slopes: Tensor) -> Tensor:
    """The map (T,) of states (T, D) and their slopes (T, D)."""
    return (states.detach() * slopes.mean(0)).sum(-1).relu()
