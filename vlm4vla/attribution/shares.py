"""Shares on target: how much of where a policy looks lies on the object that is named."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from vlm4vla.attribution.attention import attention_by_layer
from vlm4vla.attribution.faithfulness import mass_shares
from vlm4vla.attribution.grad_cam import grad_cam_by_layer
from vlm4vla.attribution.inferences import Inference
from vlm4vla.attribution.inputs import Cells, Question, Scores
from vlm4vla.attribution.target import DISPLACEMENT
from vlm4vla.attribution.trust_table import Mean, mean_of
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy

Maps = dict[str, Scores | None]
"""By layer; None where nothing reads it."""


def attention_of_query(policy: Policy, question: Question) -> Maps:
    """The action query's attention in each block of the language model, the mean of its heads."""
    maps = attention_by_layer(policy, question)
    return {f"query {number}": one for number, one in enumerate(maps, 1)}


def gradients_by_layer(policy: Policy, question: Question) -> Maps:
    """Grad-CAM at each block of the vision tower."""
    found = grad_cam_by_layer(policy, question, DISPLACEMENT)
    return {f"vision {number}": one for number, one in enumerate(found, 1)}


METHODS: Final[dict[str, Callable[[Policy, Question], Maps]]] = {
    "grad-cam": gradients_by_layer,
    "attention": attention_of_query,
}
"""By name; see `vlm4vla.attribution.names.METHODS`. Those without layers stand in trust tables."""

_OF_ACTIONS: Final = ("grad-cam",)
"""Methods that explain an action, which a VLM that is no policy does not have."""

_EVERY: Final = 25
"""Inferences between two lines about how far it is."""


def share_on_object(maps: Iterable[tuple[int, Scores, Cells]]) -> tuple[Mean, int]:
    """The mean share of maps that lies on the object, and of how many maps.

    Maps without any score say nothing of where it lies and are left out; those of one scene are
    averaged; the interval is over scenes.

    Args:
        maps: seed of the scene, (GRID, GRID) scores, and (H, W) which pixels are the object's.
    """
    found: dict[int, list[float]] = {}
    for seed, scores, pixels in maps:
        if scores.any():
            found.setdefault(seed, []).append(mass_shares(scores, {"": pixels})[""])
    return mean_of(float(np.mean(some)) for some in found.values()), sum(map(len, found.values()))


class LayerShare(NamedTuple):
    """The share of one method's maps at one layer that lies on the named object.

    Attributes:
        method: one of `METHODS`.
        layer: such as "vision 3", or "query 2" for the query's attention in the second block.
        place: of the layer among those of its method, from 0.
        told: over scenes.
        maps: that have any score; only these count.
    """

    method: str
    layer: str
    place: int
    told: Mean
    maps: int


def methods_for(acts: bool) -> list[str]:
    """Methods that can explain an encoder.

    Args:
        acts: whether it has learned to act; else it has no action to explain.
    """
    return [method for method in METHODS if acts or method not in _OF_ACTIONS]


def shares_by_layer(
    policy: Policy, asked: Sequence[Inference], method: str, tell: Callable[[str], None]
) -> list[LayerShare]:
    """The shares of one method, layer by layer; none where the policy's family has no such map.

    Maps are of how far the first action goes its own way; attention does not depend on it.

    Args:
        policy: whose.
        asked: inferences with their true regions.
        method: one of `METHODS`.
        tell: takes a line about how far it is.
    """
    maps = list[Maps]()
    try:
        for one in asked:
            maps.append(METHODS[method](policy, one.question))
            if not len(maps) % _EVERY:
                tell(f"{method}: {len(maps)} of {len(asked)} inferences")
    except UserError as error:
        tell(f"{method}: {error.problem}")
        return []
    found = []
    for place, layer in enumerate(maps[0]):
        told, some = share_on_object(_at(layer, maps, asked))
        if told.n:
            found.append(LayerShare(method, layer, place, told, some))
    tell(f"{method} explained at {len(asked)} inferences")
    return found


def _at(
    layer: str, maps: Sequence[Maps], asked: Sequence[Inference]
) -> Iterator[tuple[int, Scores, Cells]]:
    for one, inference in zip(maps, asked, strict=True):
        if (scores := one[layer]) is not None:
            yield inference.spec.seed, scores, inference.regions["object"]
