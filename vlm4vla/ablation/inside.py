"""Perturbations inside a policy: layers and heads that are skipped, image tokens that are zero.

They are hooks that last for one call of one thread. A policy is as it was afterwards, also when
the call fails.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vlm4vla.action import ActionSpec
from vlm4vla.agents.policy import PolicyAgent, single_threaded_agent
from vlm4vla.core.condition import Perturbation
from vlm4vla.core.episode import AgentId, EpisodeSpec
from vlm4vla.core.observation import Array, Observation
from vlm4vla.errors import UserError
from vlm4vla.model.features import Features
from vlm4vla.model.policy import Policy

NO_IMAGE_TOKENS: Final = "skip-image-tokens"
INSIDE: Final = (NO_IMAGE_TOKENS, "skip-vision-layer", "skip-language-layer", "skip-head")
"""Names of the perturbations inside a policy."""

_ATTENTION: Final = re.compile("attn|attention", re.IGNORECASE)
_OUTPUT: Final = ("o_proj", "out_proj", "proj", "dense", "c_proj", "projection_layer")
"""What families call the linear layer that mixes an attention's heads."""

_HEADS: Final = ("num_heads", "num_attention_heads", "n_heads")


class ChangedPolicyAgent:
    """A policy some of whose parts are skipped, as each episode's condition says; see `Agent`.

    Args:
        agent: the policy's own agent.
    """

    perturbations: tuple[str, ...] = INSIDE

    def __init__(self, agent: PolicyAgent) -> None:
        self._policy = agent.policy
        self.identity: AgentId = agent.identity
        self.replan_every: int = agent.replan_every
        self.cameras: tuple[str, ...] = agent.cameras
        self.action: ActionSpec = agent.action
        self._changes: tuple[Perturbation, ...] = ()
        self._instruction = ""

    def prepare(self, spec: EpisodeSpec) -> None:
        """See `PerturbableAgent.prepare`."""
        self._changes = tuple(p for p in spec.condition.perturbations if p.name in INSIDE)
        # A part that the family lacks is told before anything moves.
        with changed(self._policy, self._changes):
            pass

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`."""
        self._instruction = instruction

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`."""
        image = observation.images[self.cameras[0]]
        holding = [one for one in self._changes if one.holds(observation.step)]
        blind = any(one.name == NO_IMAGE_TOKENS for one in holding)
        with changed(self._policy, holding):
            change = without_image_tokens if blind else None
            return self._policy.act(image[None], [self._instruction], change)[0]


def changed_agent(checkpoint: Path) -> ChangedPolicyAgent:
    """A policy that uses one thread of this process and whose parts can be skipped.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    return ChangedPolicyAgent(single_threaded_agent(checkpoint))


def without_image_tokens(features: Features) -> Features:
    """Zero vectors in the place of every image token."""
    return features.map(torch.zeros_like)


@contextmanager
def changed(policy: Policy, changes: Sequence[Perturbation]) -> Iterator[None]:
    """Skips layers and heads in calls of this thread for as long as the block lasts.

    Args:
        policy: whose.
        changes: perturbations inside a policy; those that are no hooks are passed over.

    Raises:
        UserError: the family has no such layer or head, or they cannot be told.
    """
    with ExitStack() as hooks:
        for change in changes:
            if change.name != NO_IMAGE_TOKENS:
                hooks.callback(_hook(policy, change).remove)
        yield


def layers_of(policy: Policy, part: str) -> list[nn.Module]:
    """The layers of the vision tower or of the language model, in order.

    Args:
        policy: whose.
        part: "vision" or "language".

    Raises:
        UserError: the part has no single list of layers with attention.
    """
    family = policy.vlm.family
    modules = dict(policy.base.named_modules())
    paths = family.vision if part == "vision" else family.language
    found = [
        module
        for path in paths
        if path in modules
        for module in modules[path].modules()
        if isinstance(module, nn.ModuleList) and len(module) and all(map(_is_layer, module))
    ]
    # What stands in a layer is a part of it.
    outer = [one for one in found if not any(one is not o and one in o.modules() for o in found)]
    if len(outer) != 1:
        how = f"stand in {len(outer)} lists" if outer else "are no list"
        raise UserError(
            f"The {part} layers of {family.name!r} {how}, so none can be skipped by its number.",
            "Perturb the picture or the sentence instead.",
        )
    return list(outer[0])


def _is_layer(module: nn.Module) -> bool:
    # A list of lists is never called, so a hook on one of its entries would do nothing.
    return not isinstance(module, nn.ModuleList) and _attention(module) is not None


def _attention(layer: nn.Module) -> nn.Module | None:
    """The attention of a layer: what has heads and a linear layer that mixes them."""
    for name, module in layer.named_modules():
        if _ATTENTION.search(name) and _mixing(module) is not None and _heads(module):
            return module
    return None


def _mixing(attention: nn.Module) -> nn.Linear | None:
    children = dict(attention.named_children())
    return next((one for name in _OUTPUT if isinstance(one := children.get(name), nn.Linear)), None)


def _heads(attention: nn.Module) -> int:
    for owner in (attention, getattr(attention, "config", None)):
        for name in _HEADS:
            if isinstance(count := getattr(owner, name, None), int):
                return count
    return 0


def _hook(policy: Policy, change: Perturbation) -> Any:
    part = str(change.values.get("part", change.name.split("-")[1]))
    layers, index = layers_of(policy, part), int(change.values["layer"])
    if index >= len(layers):
        raise UserError(
            f"The {part} part of {policy.vlm.family.name!r} has no layer {index}.",
            f"It has layers 0 to {len(layers) - 1}.",
        )
    if change.name != "skip-head":
        return layers[index].register_forward_hook(_skip(), with_kwargs=True)
    attention = _attention(layers[index])
    assert attention is not None
    heads, head, mixing = _heads(attention), int(change.values["head"]), _mixing(attention)
    assert mixing is not None
    if head >= heads or mixing.in_features % heads:
        raise UserError(
            f"Layer {index} of the {part} part has no head {head}.", f"It has 0 to {heads - 1}."
        )
    width = mixing.in_features // heads
    return mixing.register_forward_pre_hook(_silence(head * width, (head + 1) * width))


def _skip() -> Any:
    own = threading.get_ident()

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if threading.get_ident() != own:
            return output
        given: Tensor = args[0] if args else kwargs["hidden_states"]
        return (given, *output[1:]) if isinstance(output, tuple) else given

    return after


def _silence(start: int, stop: int) -> Any:
    own = threading.get_ident()

    def before(module: nn.Module, args: Any) -> Any:
        if threading.get_ident() != own:
            return None
        heads = args[0].clone()
        heads[..., start:stop] = 0
        return (heads, *args[1:])

    return before
