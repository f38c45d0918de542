"""Cells: one policy and its evaluation, named by the hash of everything that goes into them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.errors import UserError
from vlm4vla.files import sha256_of

Init = Literal["vlm", "scratch", "mimetic"]

WEIGHTS: Final = "model.safetensors"

OPTIONS: Final = ("steps", "batch", "learning_rate")
"""Constants that the training command is told; it takes the others from the preset."""

SINCE: Final = {"comparisons": 1.0, "from_start": False}
"""Numbers that recipes have since the first cells were named. All cells have these values, which
are what was done before, so they stand in no name."""


def digest_of(vlm: Path) -> str:
    """The first sixteen hexadecimal digits of the SHA-256 of a folder's weights."""
    return sha256_of(vlm / WEIGHTS)[:16]


@dataclass(frozen=True)
class Start:
    """Where a cell's policy starts.

    Attributes:
        family: of the VLM.
        source: a folder below `checkpoints/`, any other folder, or a Hub id.
        digest: of its weights, see `digest_of`; "" for a Hub id.
        init: see `vlm4vla.train.start.INITS`.
    """

    family: str
    source: str
    digest: str
    init: Init

    @property
    def path(self) -> str:
        """What `vlm4vla train --from` takes."""
        shipped = SHIPPED / self.source
        return str(shipped) if shipped.is_dir() else self.source

    def check(self) -> None:
        """Refuses a VLM that is not the declared one.

        Raises:
            UserError: it is another one, or it is not there.
        """
        if not self.digest:
            return
        if not (Path(self.path) / WEIGHTS).is_file():
            raise UserError(f"There is no VLM {self.source}.", "Name the folder that holds it.")
        found = digest_of(Path(self.path))
        if found != self.digest:
            raise UserError(
                f"The weights of {self.source} are {found}, and the study begins with "
                f"{self.digest}.",
                "Check out the version that holds them.",
            )


@dataclass(frozen=True)
class Scenes:
    """Scenes that policies are evaluated on: seeds one after another, of every task."""

    first_seed: int
    episodes: int

    @property
    def seeds(self) -> range:
        """The scenes' seeds."""
        return range(self.first_seed, self.first_seed + self.episodes)


@dataclass(frozen=True)
class Training:
    """Everything that fixes one training.

    Attributes:
        start: where it starts.
        groups: freeze groups that learn, in the order of `vlm4vla.model.groups.GROUPS`.
        preset: of the training command.
        constants: every number of the recipe by name, the preset's own among them.
        seed: of new weights and of batches.
        data: fingerprint of the frames that it learns from.
        tasks: whose instructions it learns.
    """

    start: Start
    groups: tuple[str, ...]
    preset: str
    constants: Mapping[str, str | float]
    seed: int
    data: str
    tasks: tuple[str, ...]

    @cached_property
    def name(self) -> str:
        """Twelve hexadecimal digits, a function of everything in it.

        What it does not have leaves the name as it was before anything could have it.
        """
        fixed = {name: value for name, value in asdict(self).items() if value is not None}
        text = json.dumps(fixed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class VlmStep(Training):
    """A VLM's training on action tokens, before the policy's; cells share what it makes.

    Attributes:
        shuffled: see `vlm4vla.train.objectives.tokens.TokensRecipe`.
    """

    shuffled: bool


@dataclass(frozen=True)
class Cell(Training):
    """A cell: everything that fixes a policy's training and its evaluation.

    Attributes:
        scenes: that it is evaluated on, of every task that it learns.
        step: what its VLM learns before, from the cell's own start; None for nothing.
    """

    scenes: Scenes
    step: VlmStep | None = None

    @property
    def learning_rate(self) -> float:
        """Its learning rate."""
        return float(self.constants["learning_rate"])

    @property
    def expected(self) -> int:
        """Episodes of its evaluation."""
        return len(self.tasks) * self.scenes.episodes


def train_command(
    cell: Cell, data: Path, run: Path, workers: int = 0, vlm: Path | None = None
) -> list[str]:
    """The words after `vlm4vla` that train a cell's policy.

    Args:
        cell: which.
        data: the training cache.
        run: the run's folder.
        workers: processes that prepare batches.
        vlm: what the cell's step made; None for a cell without one.
    """
    assert (vlm is None) == (cell.step is None)
    return _train("imitation", cell, str(vlm or cell.start.path), data, run, workers)


def step_command(step: VlmStep, data: Path, run: Path, workers: int = 0) -> list[str]:
    """The words after `vlm4vla` that make a step's VLM; see `train_command`."""
    words = _train("tokens", step, step.start.path, data, run, workers)
    return [*words, "--shuffled"] if step.shuffled else words


def _train(
    stage: str, training: Training, source: str, data: Path, run: Path, workers: int
) -> list[str]:
    words = ["train", stage, "--from", source, "--init", training.start.init]
    words += ["--data", str(data), "--out", str(run), "--tasks", *training.tasks]
    words += ["--train", *training.groups, "--preset", training.preset]
    for name in OPTIONS:
        words += [f"--{name.replace('_', '-')}", f"{training.constants[name]:g}"]
    return [*words, "--seed", str(training.seed), "--check-every", "0", "--workers", str(workers)]


def measure_command(cell: Cell) -> list[str]:
    """The words after `vlm4vla` that measure a cell's policy after its evaluation."""
    return ["study", "measure", "--cells", cell.name]


def eval_command(cell: Cell, checkpoint: Path, workers: int = 1) -> list[str]:
    """The words after `vlm4vla` that evaluate a cell's policy, into the cell.

    Args:
        cell: which.
        checkpoint: its policy.
        workers: simulators at a time.
    """
    words = ["eval", "--checkpoint", str(checkpoint), "--tasks", *cell.tasks]
    words += ["--episodes", str(cell.scenes.episodes)]
    words += ["--first-seed", str(cell.scenes.first_seed)]
    return [*words, "--cell", cell.name, "--workers", str(workers), "--json"]
