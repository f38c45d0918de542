"""The known sentences: templates with paraphrases, word for word what the policy was taught.

`{object}` stands for the object that moves (or is touched), `{target}` for the place or object
that it moves to. The held-out paraphrases are sentences that training never sees, made of words
that it does see.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Templates(NamedTuple):
    """Paraphrases of one task, those for training and those held out."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


TEMPLATES: Final[Mapping[str, Templates]] = {
    "reach": Templates(
        train=(
            "touch the {object}",
            "reach the {object}",
            "reach for the {object}",
            "go to the {object}",
            "move to the {object}",
            "move the hand to the {object}",
            "put the gripper on the {object}",
            "make contact with the {object}",
            "reach out and touch the {object}",
        ),
        held_out=(
            "go and touch the {object}",
            "move the gripper to the {object}",
            "make the hand touch the {object}",
        ),
    ),
    "pick": Templates(
        train=(
            "pick up the {object}",
            "lift the {object}",
            "grasp the {object} and lift it",
            "take the {object}",
            "grab the {object}",
            "raise the {object}",
            "pick the {object} up off the table",
            "get hold of the {object} and raise it",
            "lift the {object} up",
        ),
        held_out=(
            "grab the {object} and lift it up",
            "take hold of the {object} and raise it",
            "lift the {object} off the table",
        ),
    ),
    "push": Templates(
        train=(
            "push the {object} into the {target}",
            "push the {object} to the {target}",
            "slide the {object} into the {target}",
            "slide the {object} over to the {target}",
            "shove the {object} into the {target}",
            "move the {object} into the {target}",
            "push the {object} across the table to the {target}",
            "get the {object} into the {target} by pushing it",
            "bring the {object} to the {target} by sliding it",
        ),
        held_out=(
            "shove the {object} over to the {target}",
            "slide the {object} across the table into the {target}",
            "get the {object} to the {target} by sliding it",
        ),
    ),
    "place": Templates(
        train=(
            "put the {object} {on} the {target}",
            "place the {object} {on} the {target}",
            "set the {object} down {on} the {target}",
            "pick up the {object} and put it {on} the {target}",
            "drop the {object} {on} the {target}",
            "lay the {object} {on} the {target}",
            "carry the {object} to the {target} and let it go",
            "lift the {object} and place it {on} the {target}",
            "take the {object} and set it {on} the {target}",
        ),
        held_out=(
            "lift the {object} and drop it {on} the {target}",
            "take the {object} and lay it {on} the {target}",
            "pick up the {object} and set it down {on} the {target}",
        ),
    ),
    "stack": Templates(
        train=(
            "stack the {object} on the {target}",
            "stack the {object} on top of the {target}",
            "put the {object} on the {target}",
            "place the {object} on top of the {target}",
            "build a tower with the {object} on the {target}",
            "set the {object} down on top of the {target}",
            "pick up the {object} and stack it on the {target}",
            "make a stack with the {object} on top of the {target}",
            "lift the {object} and place it on the {target}",
        ),
        held_out=(
            "make a tower with the {object} on top of the {target}",
            "lift the {object} and stack it on top of the {target}",
            "take the {object} and set it on the {target}",
        ),
    ),
}
"""By task. `{on}` is "in" for a bowl (with "into" understood too) and "on" for everything else."""


def fill(template: str, thing: str, target: str | None) -> str:
    """A template with its names, such as "red cube" and "blue bowl"."""
    preposition = "in" if target and target.endswith(" bowl") else "on"
    return template.format(object=thing, target=target, on=preposition)
