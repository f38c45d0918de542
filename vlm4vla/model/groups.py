"""Freeze groups: which parameters are vision, language, embeddings, projector and head."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedModel

from vlm4vla.errors import UserError
from vlm4vla.model.family import Family
from vlm4vla.model.group_names import GROUPS as GROUPS

UNUSED = "unused"
"""What has no part in the policy; it belongs to no freeze group and never learns."""


class GroupSize(NamedTuple):
    """How many parameters a group holds and how many of them learn."""

    parameters: int
    trainable: int


def inside(name: str, paths: tuple[str, ...]) -> bool:
    """Whether a module or parameter is one of these modules, or in one of them."""
    return any(name == path or name.startswith(path + ".") for path in paths)


def group_of(family: Family, base: PreTrainedModel) -> dict[str, str]:
    """The group of each parameter of a VLM by name, or `UNUSED`; each belongs to exactly one.

    The boundary is the paper's (section "Ablations"): a merger inside the vision encoder, as in
    Qwen, freezes with it; a projector outside is a group of its own.

    Raises:
        UserError: a parameter belongs to no group, or a declared module does not exist.
    """
    modules = dict(base.named_modules())
    declared = (*family.vision, *family.projector, *family.language)
    names = [name for name, _ in base.named_parameters()]
    for path in declared:
        if path not in modules and path not in names:
            raise UserError(f"The family {family.name!r} names {path!r}, which the model lacks.")
    words = base.get_input_embeddings().weight
    groups = {}
    for name, parameter in base.named_parameters():
        if parameter is words:
            groups[name] = "embeddings"
        elif inside(name, family.projector):
            groups[name] = "projector"
        elif inside(name, family.vision):
            groups[name] = "vision"
        elif inside(name, family.language):
            groups[name] = "language"
        elif inside(name, family.unused):
            groups[name] = UNUSED
        else:
            raise UserError(f"The family {family.name!r} puts {name!r} into no freeze group.")
    return groups


def parameter_groups(policy: nn.Module) -> dict[str, str]:
    """The group of every parameter of a policy by name; the action query is part of the head."""
    inner = group_of(policy.vlm.family, policy.base)  # type: ignore[arg-type, union-attr]
    return {
        name: inner[name.removeprefix("base.")] if name.startswith("base.") else "head"
        for name, _ in policy.named_parameters()
    }


def set_trainable(policy: nn.Module, groups: Iterable[str]) -> None:
    """Makes exactly the named groups learn, and asserts it.

    Args:
        policy: a `Policy`.
        groups: any of `GROUPS`. A group without parameters in this family (the projector of
            Qwen, which lies inside its vision encoder) may be named.

    Raises:
        UserError: a name is not a group, or nothing would learn.
    """
    wanted = set(groups)
    if unknown := sorted(wanted - set(GROUPS)):
        raise UserError(f"Unknown freeze group {unknown[0]!r}; known: {', '.join(GROUPS)}.")
    belongs = parameter_groups(policy)
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_(belongs[name] in wanted)
    if not any(parameter.requires_grad for parameter in policy.parameters()):
        raise UserError(f"Nothing learns with {', '.join(sorted(wanted)) or 'no group'}.")
    for name, parameter in policy.named_parameters():
        assert parameter.requires_grad == (belongs[name] in wanted), name


def describe_trainable(policy: nn.Module) -> dict[str, GroupSize]:
    """Parameters by group, as recorded in a checkpoint."""
    sizes = {group: GroupSize(0, 0) for group in GROUPS}
    belongs = parameter_groups(policy)
    for name, parameter in policy.named_parameters():
        old, count = sizes.get(belongs[name], GroupSize(0, 0)), parameter.numel()
        sizes[belongs[name]] = GroupSize(
            old.parameters + count, old.trainable + count * parameter.requires_grad
        )
    return sizes
