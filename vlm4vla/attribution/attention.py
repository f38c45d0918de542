"""What a VLM attends to: rollout in its vision tower, and the action query's attention.

Both say where a policy looks, not what comes of it, and are the same for every target.
"""

import numpy as np
import torch
from torch import Tensor

from vlm4vla.attribution.inputs import Question, Scores
from vlm4vla.attribution.internals import (
    Attended,
    language_layers,
    opened,
    patch_grid,
    patches_a_side,
    recorded_attention,
    token_grid,
    vision_layers,
)
from vlm4vla.attribution.score import Attribution, Explained, intact
from vlm4vla.attribution.target import Target
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy


def attention_rollout(policy: Explained, question: Question, target: Target) -> Attribution:
    """Attention rollout (Abnar and Zuidema 2020) through the vision tower, averaged over patches.

    Scores are shares of attention that sum to at most 1 (a class token may have some).

    Args:
        policy: whom to explain.
        question: picture and sentence.
        target: gives the value; the scores do not depend on it.

    Raises:
        UserError: the tower does not attend in the whole picture at every layer.
    """
    inside = opened(policy)
    layers = vision_layers(inside)
    with recorded_attention(inside) as seen, torch.no_grad():
        inside.encode(question.picture[None])
    attended = [one.weights for one in seen if _belongs(one, layers)]
    patches = patches_a_side(inside) ** 2
    if len(attended) != len(layers) or any(w.shape[-2] < patches for w in attended):
        raise UserError(
            f"The vision tower of {inside.vlm.family.name} does not attend in the whole picture "
            "at every layer.",
            "Choose occlusion or Grad-CAM.",
        )
    # The patches stand last; what is read of the tower are theirs.
    shares = rolled_out(attended)[-patches:].mean(0)
    return Attribution(patch_grid(inside, shares), _value(inside, question, target))


def rolled_out(weights: list[Tensor]) -> Tensor:
    """Rollout (L, L): whose input each last state holds, through layers (1, heads, L, L).

    Heads are averaged, and half of each layer is what it passes by.
    """
    size = weights[0].shape[-1]
    through = torch.eye(size, dtype=torch.float64)
    for one in weights:
        attended = one[0].double().cpu().mean(0)
        through = (attended + torch.eye(size)) / 2 @ through
    return through


def query_attention(policy: Explained, question: Question) -> Scores:
    """The action query's attention (layers, heads, T) to every vision token.

    Raises:
        UserError: the query stands in a decoder that sees no vision tokens.
    """
    inside = opened(policy)
    if inside.base.config.is_encoder_decoder:
        raise UserError(
            f"The action query of {inside.vlm.family.name} stands in a decoder of its own, away "
            "from the vision tokens.",
            "Choose occlusion.",
        )
    layers = language_layers(inside)
    rows = inside.prompt([question.instruction])
    with recorded_attention(inside) as seen, torch.no_grad():
        inside.states(inside.encode(question.picture[None]), rows)
    attended = [
        one.weights[0, :, int(rows.last), rows.is_image[0]] for one in seen if _belongs(one, layers)
    ]
    return np.asarray(torch.stack(attended).double().cpu())


def attention_by_layer(policy: Explained, question: Question) -> Scores:
    """The action query's attention to the vision tokens, a map (layers, GRID, GRID) a layer.

    Each is the mean of its heads; their mean is what `attention` gives by default.

    Raises:
        UserError: see `attention`.
    """
    inside = opened(policy)
    of_layers = query_attention(inside, question).mean(1)
    return np.stack([token_grid(inside, torch.as_tensor(one)) for one in of_layers])


def attention(
    policy: Explained,
    question: Question,
    target: Target,
    *,
    layer: int | None = None,
    head: int | None = None,
) -> Attribution:
    """The action query's attention to the vision tokens as a map.

    Scores are shares of attention that sum to at most 1.

    Args:
        policy: whom to explain.
        question: picture and sentence.
        target: gives the value; the scores do not depend on it.
        layer: of the language model, from 0; None for the mean of all.
        head: of that layer, or of every layer; None for the mean of all.

    Raises:
        UserError: there is no such layer or head, or the tokens belong to no place.
    """
    inside = opened(policy)
    found = query_attention(inside, question)
    for axis, (what, index) in enumerate((("layers", layer), ("heads", head))):
        if index is not None:
            if not 0 <= index < found.shape[axis]:
                raise UserError(f"There are {found.shape[axis]} {what}, so none is {index}.")
            found = found.take([index], axis)
    scores = token_grid(inside, torch.as_tensor(found.mean((0, 1))))
    return Attribution(scores, _value(inside, question, target))


def _belongs(one: Attended, layers: dict[str, torch.nn.Module]) -> bool:
    return any(one.name.startswith(f"{name}.") for name in layers)


def _value(policy: Policy, question: Question, target: Target) -> float:
    before = intact(policy, question)
    return float(target.of(before, before, policy.spec))
