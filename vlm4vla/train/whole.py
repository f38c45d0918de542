"""The whole recipe of a family: language, grounding and imitation, one run after the other."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from vlm4vla.data.cache import Cache
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.train.gates import GateFailed
from vlm4vla.train.stages import (
    CHECKPOINT,
    VLM,
    Run,
    identity_of,
    run_grounding,
    run_imitation,
    run_language,
    start_policy,
)

WHOLE: Final = ("language", "grounding", "imitation")
"""The stages, in order."""


def run_whole(
    run: Run,
    family: str,
    recipes: Mapping[str, Any],
    cache: Cache,
    tasks: Sequence[Task] = (),
    drawings: Path | None = None,
) -> Path:
    """Trains a policy of a family from random weights; goes on where an earlier call stopped.

    Each stage is a run of its own in the run's folder. One that is over is not repeated. A gate
    that failed is told at the end: the stages after it learn what it asks for, too, so whether the
    policy is good shows in the simulator.

    Args:
        run: the run; its folder holds those of the stages.
        family: a registered name.
        recipes: of the stages, by name.
        cache: robot frames: the expert's, and those of rounds that were collected with a policy.
        tasks: whose instructions are drawn; empty for all.
        drawings: a folder in which drawn pictures are kept for other runs; None keeps none.

    Returns:
        The folder of the policy.

    Raises:
        UserError: a stage was begun or finished with another recipe.
        GateFailed: all stages are over, and gates of the named ones failed.
    """
    language, grounding, imitation = (replace(run, folder=run.folder / name) for name in WHOLE)
    vlm, grounded = language.folder / VLM, grounding.folder / CHECKPOINT
    policy = imitation.folder / CHECKPOINT
    begin = replace(recipes["language"], family=family)
    stages: tuple[tuple[Run, Any, Path, Callable[[], Path]], ...] = (
        (language, begin, vlm, lambda: run_language(language, begin, drawings=drawings)),
        (
            grounding,
            recipes["grounding"],
            grounded,
            lambda: run_grounding(
                replace(grounding, start=identity_of(vlm)),
                recipes["grounding"],
                start_policy(vlm, "vlm", run.device),
                cache,
                tasks,
            ),
        ),
        (
            imitation,
            recipes["imitation"],
            policy,
            lambda: run_imitation(
                replace(imitation, start=identity_of(grounded)),
                recipes["imitation"],
                start_policy(grounded, "vlm", run.device),
                cache,
                tasks,
            ),
        ),
    )
    failed = []
    for stage, recipe, result, learn in stages:
        if result.is_dir():
            _refuse_another(stage.folder, recipe)
        else:
            print(f"{stage.folder.name}:", flush=True)
            with contextlib.suppress(GateFailed):
                learn()
        failed += _failed(stage.folder)
    if failed:
        raise GateFailed(
            f"{policy} is trained, but these gates failed: {'; '.join(failed)}.",
            f"Measure it with `vlm4vla eval`; `vlm4vla train imitation --from {policy}` goes on.",
        )
    return policy


def _refuse_another(folder: Path, recipe: Any) -> None:
    """Refuses to take over what a stage of another recipe left."""
    begun = json.loads((folder / "recipe.json").read_text("utf-8"))
    wanted = json.loads(json.dumps(asdict(recipe.loop)))
    changed = sorted(name for name, value in wanted.items() if begun.get(name) != value)
    if changed:
        raise UserError(
            f"{folder} was finished with another recipe ({', '.join(changed)} differ).",
            "Give the same options, or another --out to begin anew.",
        )


def _failed(folder: Path) -> list[str]:
    """The gates of a finished stage that failed, as they are told."""
    gates = json.loads((folder / "gates.json").read_text("utf-8"))
    return [
        f"{folder.name}: {gate['figure']} {gate['value']:.4g} (limit {gate['limit']:g})"
        for gate in gates
        if not gate["passed"]
    ]
