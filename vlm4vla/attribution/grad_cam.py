"""Grad-CAM at a layer of the vision tower."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from vlm4vla.attribution.inputs import Question, Scores
from vlm4vla.attribution.internals import opened, outputs_of, patch_grid, vision_layers
from vlm4vla.attribution.score import Attribution, Explained, intact
from vlm4vla.attribution.target import Target, require_slope
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy


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
    [found], value = _maps(inside, question, target, [layers[layer]])
    if found is None:
        raise UserError(
            f"Nothing reads layer {layer} of the vision tower of {inside.vlm.family.name}.",
            "Choose an earlier layer.",
        )
    return Attribution(found, value)


def grad_cam_by_layer(policy: Explained, question: Question, target: Target) -> list[Scores | None]:
    """Grad-CAM at every layer of the vision tower at once; None where nothing reads a layer.

    Args:
        policy: whom to explain.
        question: picture and sentence.
        target: the value.

    Raises:
        UserError: the target has no slope, or the tower no layers or no grid of patches.
    """
    require_slope(target)
    inside = opened(policy)
    found, _ = _maps(inside, question, target, list(vision_layers(inside).values()))
    return found


def _maps(
    inside: Policy, question: Question, target: Target, layers: Sequence[nn.Module]
) -> tuple[list[Scores | None], float]:
    """The maps at some layers, from one pass, and the value."""
    before = intact(inside, question)
    # A frozen tower has slopes only if they start at the pixels.
    pixels = inside.pixels(question.picture[None]).requires_grad_()
    with torch.enable_grad(), ExitStack() as open_:
        seen = [open_.enter_context(outputs_of(layer)) for layer in layers]
        prediction = inside.predict(
            inside.encode_pixels(pixels), inside.prompt([question.instruction])
        )
        value = target.of(prediction, before, inside.spec)
        states = [one[0] for one in seen]
        slopes: Sequence[Tensor | None] = torch.autograd.grad(
            value.sum(), states, allow_unused=True
        )
    found: list[Scores | None] = []
    for state, slope in zip(states, slopes, strict=True):
        if slope is None:
            found.append(None)
            continue
        width = state.shape[-1]
        scores = class_activation(state.reshape(-1, width), slope.reshape(-1, width))
        found.append(patch_grid(inside, scores))
    return found, float(value.detach())


def class_activation(states: Tensor, slopes: Tensor) -> Tensor:
    """The map (T,) of states (T, D) and their slopes (T, D)."""
    return (states.detach() * slopes.mean(0)).sum(-1).relu()
