"""What a VLM has been through: one entry a stage, carried along with its weights."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vlm4vla.errors import UserError
from vlm4vla.model.vlm import Vlm
from vlm4vla.paths import home

FILE: Final = "training.json"
"""Lies in every folder of a VLM or policy that our stages made."""

_CHECKOUT: Final = Path(__file__).parents[2]


def lineage(vlm: Vlm) -> list[dict[str, Any]]:
    """The stages so far, first one first; empty for a VLM from elsewhere.

    Raises:
        UserError: the account that lies beside the weights is damaged.
    """
    try:
        entries = json.loads(vlm.extras.get(FILE, "[]"))
    except ValueError as error:
        raise _damaged(vlm, str(error)) from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _damaged(vlm, "it is no list of stages")
    return entries


def _damaged(vlm: Vlm, reason: str) -> UserError:
    return UserError(
        f"{FILE} of {vlm.source} cannot be read: {reason}.",
        "Copy the folder again, or delete that file to start without an account.",
    )


def remember(
    vlm: Vlm,
    stage: str,
    recipe: Mapping[str, Any],
    figures: Mapping[str, float],
    data: Mapping[str, str],
) -> None:
    """Adds a stage that is over.

    Args:
        vlm: what has learned.
        stage: the stage's name.
        recipe: how, as plain values.
        figures: what was measured at the end.
        data: fingerprints of what it learned from, by name.
    """
    entry = {
        "stage": stage,
        "command": command(),
        "recipe": dict(recipe),
        "figures": {name: float(f"{value:.4g}") for name, value in figures.items()},
        "data": dict(data),
    }
    text = json.dumps([*lineage(vlm), entry], indent=1) + "\n"
    vlm.extras = {**vlm.extras, FILE: text}


def forget(vlm: Vlm) -> None:
    """Drops the stages of weights that are no longer there."""
    vlm.extras = {name: text for name, text in vlm.extras.items() if name != FILE}


def command() -> str:
    """The command that is running, without the name of anybody's folders."""
    words = " ".join(["vlm4vla", *sys.argv[1:]])
    # The data folder first: it may lie in a checkout, and both in a home directory.
    known = ((f"{home()}", "$VLM4VLA_HOME"), (f"{_CHECKOUT}/", ""), (f"{Path.home()}", "~"))
    for folder, text in known:
        # Whole names alone, where a word or an option's value begins.
        end = "" if folder.endswith("/") else r"(?=/|\s|$)"
        words = re.sub(rf"(?<![^\s=]){re.escape(folder)}{end}", text, words)
    return words
