"""What a checkpoint folder says of itself, read without loading it: family, size, training, skill.

Everything comes from the JSON files of the folder, and what they do not say stays unknown.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vlm4vla.statistics import Rate, wilson

SKILLS: Final = ("colour", "shape", "count", "relation", "existence", "naming", "bound")
"""Kinds of questions about pictures that make up general skill; "bound" is pointing at the right
one of several things."""

_MATERIAL: Final = {
    "language": "drawn pictures with questions",
    "grounding": "robot frames",
    "imitation": "robot frames",
}
"""What each stage of training learns from."""


KNOWN_SENTENCES: Final = "held out"
"""What an evaluation in a checkpoint's card calls known sentences: they are put in words that
training left out."""


@dataclass(frozen=True)
class Skill:
    """How well a VLM answers one kind of question.

    Attributes:
        share: of the answers that are right, 0..1.
        n: questions that were asked; 0 where it is not recorded.
    """

    share: float
    n: int


@dataclass(frozen=True)
class Facts:
    """What is known of a checkpoint.

    Attributes:
        family: of its VLM; "" if that is not recorded.
        policy: whether it can act; otherwise it is a VLM that a policy can start from.
        parameters: how many numbers it has; None if that is not recorded.
        trained_on: material and steps, in words; "" if that is not recorded.
        skill: by kind of question, as measured when its VLM was trained last with language.
        success: by task, with known sentences and the scene's first goal.
    """

    family: str = ""
    policy: bool = False
    parameters: int | None = None
    trained_on: str = ""
    skill: Mapping[str, Skill] = field(default_factory=dict)
    success: Mapping[str, Rate] = field(default_factory=dict)

    @property
    def overall(self) -> Rate | None:
        """All episodes of all tasks together; None if it has not been evaluated."""
        if not self.success:
            return None
        rates = self.success.values()
        return wilson(sum(rate.successes for rate in rates), sum(rate.n for rate in rates))


def facts(folder: Path) -> Facts:
    """What a folder says of itself; what is missing or damaged there counts as not said.

    Args:
        folder: of a policy, or of a VLM that the language stage made.
    """
    manifest = _object(folder / "policy.json")
    metrics = _object(folder / "metrics.json")
    stages = _stages(folder)
    family = str(manifest.get("family") or "")
    if not family:
        # Only the recipe of a VLM names its family.
        recipe = metrics.get("recipe") or (stages[0].get("recipe") if stages else None)
        family = str(_mapping(recipe).get("family", ""))
    return Facts(
        family=family,
        policy=(folder / "policy.json").is_file(),
        parameters=_parameters(manifest),
        trained_on=_trained_on(stages, metrics),
        skill=_skill(stages, metrics),
        success=_success(_mapping(manifest.get("evaluation"))),
    )


def on_known_sentences(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """A card's evaluation where it tells of known sentences, else nothing.

    One on other sentences is recorded in the same place, and its figures are not the usual ones.
    """
    usual = evaluation.get("sentences", KNOWN_SENTENCES) == KNOWN_SENTENCES
    return evaluation if usual else {}


def share(rate: Rate) -> str:
    """A success rate for people."""
    if not rate.n:
        return "not measured"
    low, high = 100 * rate.low, 100 * rate.high
    return f"{rate.successes} of {rate.n} (95 % {low:.0f} to {high:.0f} %)"


def size(parameters: int) -> str:
    """A number of parameters for people."""
    for name, unit in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= unit:
            return f"{parameters / unit:.1f} {name}"
    return str(parameters)


def _parameters(manifest: Mapping[str, Any]) -> int | None:
    groups = _mapping(manifest.get("parameters")).values()
    found = [_mapping(group).get("parameters") for group in groups]
    numbers = [number for number in found if isinstance(number, int)]
    return sum(numbers) if numbers else None


def _trained_on(stages: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> str:
    steps: dict[str, int] = {}
    for stage in stages:
        material = _MATERIAL.get(str(stage.get("stage")), str(stage.get("stage")))
        planned = _mapping(_mapping(stage.get("recipe")).get("loop")).get("steps")
        # A run that was stopped before its recipe's end says how far it came.
        planned = _mapping(stage.get("figures")).get("stopped_at_step", planned)
        done = metrics.get("steps", planned) if len(stages) == 1 else planned
        steps[material] = steps.get(material, 0) + (
            int(done) if isinstance(done, int | float) else 0
        )
    return ", ".join(f"{material} ({number:,} steps)" for material, number in steps.items())


def _skill(stages: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> dict[str, Skill]:
    found, asked = _mapping(metrics.get("skill")), _mapping(metrics.get("asked"))
    if not found:
        language = [stage for stage in stages if stage.get("stage") == "language"]
        found = _mapping(language[-1].get("figures")) if language else {}
    return {
        kind: Skill(float(found[kind]), int(asked.get(kind, 0)))
        for kind in SKILLS
        if isinstance(found.get(kind), int | float)
    }


def _success(evaluation: Mapping[str, Any]) -> dict[str, Rate]:
    rates = {}
    for task, row in _mapping(on_known_sentences(evaluation).get("tasks")).items():
        done, n = _mapping(row).get("successes"), _mapping(row).get("n")
        if isinstance(done, int) and isinstance(n, int) and 0 <= done <= n and n:
            rates[str(task)] = wilson(done, n)
    return rates


def _stages(folder: Path) -> list[Mapping[str, Any]]:
    try:
        found = json.loads((folder / "training.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _object(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
