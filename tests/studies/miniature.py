"""Studies in miniature: two VLMs of a few thousand weights, two steps, two scenes a task.

`python -m tests.studies.miniature WORDS` is `vlm4vla WORDS` among them, with simulators that end
each episode at once in a way that only the policy's hash and the scene decide.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.episodes.examples import motion
from tests.representations.test_command import painted
from vlm4vla import cli
from vlm4vla.attribution.inputs import Question
from vlm4vla.commands import eval as eval_command
from vlm4vla.commands import study as command
from vlm4vla.core.episode import AgentId, AgentSpan, Episode, EpisodeSpec, Outcome, Times
from vlm4vla.core.rollout import versions_of
from vlm4vla.data.cache import Cache
from vlm4vla.model.vlm import save_vlm
from vlm4vla.studies import views as seen
from vlm4vla.studies.cell import Scenes
from vlm4vla.studies.measures import PROBED
from vlm4vla.studies.registry import TINY
from vlm4vla.studies.run import Runner
from vlm4vla.studies.study import Scale, Vlm, studies
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.train.objectives.language import make_backbone

SIZES = {"vision_layers": 3, "vision_width": 40, "language_layers": 3, "language_width": 40}
STEPS = 3
FOLDER = "STUDY_MINIATURE"
"""Names the folder of VLMs and data in the environment, for processes that are started."""


def make(folder: Path, cache: Cache) -> None:
    """Writes the VLM and the training cache that miniatures begin with."""
    save_vlm(make_backbone(**SIZES), folder / "vlm")
    data = folder / "data"
    data.mkdir()
    for field in fields(Cache):
        if field.name not in ("episodes", "fingerprint"):
            np.save(data / f"{field.name}.npy", getattr(cache, field.name))
    description = {
        "datasets": ["gone"],
        "fingerprints": [cache.fingerprint],
        "episodes": [info.to_json() for info in cache.episodes],
    }
    (data / "cache.json").write_text(json.dumps(description))


def scale(folder: Path) -> Scale:
    """The miniature's scale."""
    weights = (folder / "vlm" / "model.safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()[:16]
    return replace(
        TINY,
        vlms=(Vlm("qwen3-vl", str(folder / "vlm"), digest),),
        constants={**TINY.constants, "steps": STEPS, "batch": 2},
        step_constants={**TINY.step_constants, "steps": STEPS, "batch": 2},
        rates=(6e-4, 1e-3),
        chosen_rates=(6e-4,),
        seeds=(0,),
        data="synthetic",
        scenes=Scenes(0, 2),
        selection=Scenes(100_000, 2),
    )


def views(*args: object) -> seen.Views:
    """Drawn noise in place of scenes: 40 pictures, and two scenes that are explained."""
    pictures = painted()
    # Cells are probed for these alone, see `PROBED`.
    truth = {one.name: pictures.truth[one.name] for one in PROBED}
    pictures = replace(pictures, truth=truth)
    object_ = np.zeros((128, 128), bool)
    object_[32:64, 48:80] = True
    asked = (
        seen.Asked(seed, Question(pictures.images[seed], pictures.instructions[seed]), object_)
        for seed in range(2)
    )
    return seen.Views(pictures, tuple(asked))


def outcome(agent: AgentId, spec: EpisodeSpec) -> Episode:
    """An episode that only the policy's hash and the scene decide."""
    text = f"{agent.digest} {spec.task} {spec.seed}"
    number = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    kind = "success" if number % 2 else "out of time"
    actions, predictions, trace = motion(4, number)
    span = (AgentSpan(agent),)
    return Episode(
        spec,
        span,
        Outcome(kind, kind),
        4,
        (),
        actions,
        predictions,
        trace,
        Times(),
        "evaluation",
        versions_of(TABLETOP, span),
    )


def run_missing(*args: Any) -> list[Episode]:
    """`vlm4vla.commands.eval.run_missing` without simulator and without policy."""
    rows, specs, agent, _, workers, *more = args

    def evaluate(
        suite: object,
        missing: Sequence[EpisodeSpec],
        make_agent: object,
        workers: int,
        report: Callable[[Episode], None],
    ) -> None:
        for spec in missing:
            time.sleep(float(os.environ.get("STUDY_MINIATURE_SLOW", "0")))
            report(outcome(agent, spec))

    eval_command.evaluate = evaluate  # type: ignore[assignment]
    return REAL(rows, specs, agent, lambda: None, workers, *more)  # type: ignore[arg-type, return-value]


REAL = eval_command.run_missing


class Here(Runner):
    """Carries commands out in processes that know the miniatures."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, module="tests.studies.miniature")


def main(words: Sequence[str]) -> int:
    """`vlm4vla` among miniatures."""
    command.STUDIES.clear()
    command.STUDIES.update(studies(scale(Path(os.environ[FOLDER]))))
    eval_command.run_missing = run_missing  # type: ignore[assignment]
    command.Runner = Here  # type: ignore[misc]
    seen.views = views  # type: ignore[assignment]
    command.SHIPPED = Path("nothing-is-shipped")  # type: ignore[misc]
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
