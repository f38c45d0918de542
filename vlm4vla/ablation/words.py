"""Perturbations as words: what the command line and addresses name them by."""

import itertools
from collections.abc import Sequence

from vlm4vla.ablation.registry import PERTURBATIONS, ordered, parse, perturbation
from vlm4vla.ablation.sentences import SENTENCES
from vlm4vla.core.condition import Perturbation
from vlm4vla.errors import UserError


def changes_of(words: Sequence[str]) -> tuple[Perturbation, ...]:
    """Perturbations from names, each followed by its numbers as NAME=VALUE.

    Args:
        words: such as "camera", "degrees=5", "picture-blank"; among the numbers may be
            `first_step` and `last_step`. None for nothing changed.

    Raises:
        UserError: the first word is no name, a number is given twice, two perturbations would each
            tell a sentence of its own at one step, or see
            `vlm4vla.ablation.registry.perturbation`.
    """
    names = [place for place, word in enumerate(words) if "=" not in word]
    if not words:
        return ()
    if names[:1] != [0]:
        raise UserError(f"{words[0]} belongs to no perturbation.", "Give a name first.")
    parts = [words[start:stop] for start, stop in zip(names, [*names[1:], None], strict=True)]
    changes = ordered([_change(part) for part in parts])
    for one, other in itertools.combinations([c for c in changes if c.name in SENTENCES], 2):
        # Each begins at a step at which it holds itself, so they meet at the later beginning.
        later = max(one.first_step, other.first_step)
        if one.holds(later) and other.holds(later):
            raise UserError(
                f"{one.name} and {other.name} would each tell a sentence of its own.",
                "Name one of them, or give each its steps with first_step and last_step.",
            )
    return changes


def words_of(change: Perturbation) -> str:
    """A perturbation as `changes_of` takes it, numbers that are as usual left out."""
    known = PERTURBATIONS.get(change.name)
    usual = perturbation(change.name).values
    numbers = {
        name: value
        for name in known.values
        if (value := change.values.get(name, usual[name])) != usual[name]
    }
    if change.first_step:
        numbers["first_step"] = change.first_step
    if change.last_step is not None:
        numbers["last_step"] = change.last_step
    return " ".join([change.name, *(f"{name}={value}" for name, value in numbers.items())])


def _change(words: Sequence[str]) -> Perturbation:
    name, *numbers = words
    keys = [word.partition("=")[0] for word in numbers]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"{name} is given {twice[0]} twice.", "Give it once.")
    values = parse(numbers)
    first, last = values.pop("first_step", 0), values.pop("last_step", None)
    if not isinstance(first, int) or not (last is None or isinstance(last, int)):
        raise UserError("A first and a last step are whole numbers.")
    if first < 0:
        raise UserError(f"{name} cannot begin at step {first}.", "Steps start at 0.")
    return perturbation(name, values, first, last)
