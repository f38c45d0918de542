"""The whole recipe of a family: language, grounding and imitation, one run after the other."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vlm4vla.data.cache import Cache
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.train.gates import FILE as GATES
from vlm4vla.train.gates import GateFailed
from vlm4vla.train.loop.train import check_finished
from vlm4vla.train.run import Run
from vlm4vla.train.stages import (
    CHECKPOINT,
    NEW,
    VLM,
    about_stage,
    run_grounding,
    run_imitation,
    run_language,
)
from vlm4vla.train.start import identity_of, start_policy

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
        UserError: a stage was begun or finished with another recipe, other data or another start;
            what is finished is looked at before anything is trained.
        GateFailed: all stages are over, and gates of the named ones failed.
    """
    language, grounding, imitation = (replace(run, folder=run.folder / name) for name in WHOLE)
    vlm, grounded = language.folder / VLM, grounding.folder / CHECKPOINT
    policy = imitation.folder / CHECKPOINT
    begin = replace(recipes["language"], family=family)
    robot = {"data": cache.fingerprint, "tasks": tasks}
    parts = (
        _Part(
            language,
            begin,
            {"start": NEW},
            vlm,
            lambda: run_language(language, begin, drawings=drawings),
        ),
        _Part(
            grounding,
            recipes["grounding"],
            {"start": identity_of(vlm), **robot},
            grounded,
            lambda: run_grounding(
                replace(grounding, start=identity_of(vlm)),
                recipes["grounding"],
                start_policy(vlm, "vlm", run.device),
                cache,
                tasks,
            ),
        ),
        _Part(
            imitation,
            recipes["imitation"],
            {"start": identity_of(grounded), **robot},
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
    for part in parts:
        part.refuse_another()
    failed = []
    for part in parts:
        if not part.over:
            print(f"{part.run.folder.name}:", flush=True)
            with contextlib.suppress(GateFailed):
                part.learn()
        failed += _failed(part.run.folder)
    if failed:
        raise GateFailed(
            f"{policy} is trained, but these gates failed: {'; '.join(failed)}.",
            f"Measure it with `vlm4vla eval`; `vlm4vla train imitation --from {policy}` goes on.",
        )
    return policy


@dataclass(frozen=True)
class _Part:
    """One stage of the whole.

    Attributes:
        run: its own.
        recipe: its.
        about: what it starts from and learns from, as its run records it.
        result: what it hands on.
        learn: trains it, or goes on where it stopped.
    """

    run: Run
    recipe: Any
    about: Mapping[str, Any]
    result: Path
    learn: Callable[[], Path]

    @property
    def over(self) -> bool:
        """Whether nothing is left to do; results of earlier versions came before their gates."""
        return self.result.is_dir() and (self.run.folder / GATES).is_file()

    def refuse_another(self) -> None:
        """Refuses a result that lies there already and was made in another way."""
        if self.result.is_dir():
            about = about_stage(self.run.folder.name, self.recipe, **self.about)
            check_finished(self.run.folder, self.recipe.loop, about)


def _failed(folder: Path) -> list[str]:
    """The gates of a finished stage that failed, as they are told."""
    gates = json.loads((folder / GATES).read_text("utf-8"))
    return [
        f"{folder.name}: {gate['figure']} {gate['value']:.4g} (limit {gate['limit']:g})"
        for gate in gates
        if not gate["passed"]
    ]
