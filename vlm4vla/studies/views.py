"""What every cell is measured on: pictures of test scenes with the truth, drawn once."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from vlm4vla import paths, seeds
from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.attribution.inferences import first_inference
from vlm4vla.attribution.inputs import Cells, Question
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.rollout import rollout
from vlm4vla.files import replacing
from vlm4vla.representations.pictures import Moment, Pictures, draw
from vlm4vla.studies.measures import PROBED
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.workers.environment import EnvironmentProcess

SCENES: Final = 600
"""Test seeds that probes are fitted to and judged on, with two pictures each: where things stand is
another question in every scene, and the same one in every picture of a scene."""

EXPLAINED: Final = 50
"""Test seeds whose first inferences are explained, of every task."""

_PICTURES: Final = "pictures.npz"
_ASKED: Final = "asked.npz"


class Asked(NamedTuple):
    """A first inference that is explained.

    Attributes:
        seed: of the scene.
        question: what a policy is asked.
        object: (H, W) which pixels are of the object that the sentence names, by truth.
    """

    seed: int
    question: Question
    object: Cells


@dataclass(frozen=True)
class Views:
    """What every cell is measured on.

    Attributes:
        pictures: for probes and CKA.
        asked: for attributions.
    """

    pictures: Pictures
    asked: tuple[Asked, ...]

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of all pixels, sentences and truths."""
        found = hashlib.sha256()
        found.update(self.pictures.images.tobytes())
        found.update(json.dumps(self.pictures.instructions).encode())
        for name, values in sorted(self.pictures.truth.items()):
            found.update(name.encode() + values.tobytes())
        for one in self.asked:
            found.update(one.question.picture.tobytes() + one.object.tobytes())
            found.update(one.question.instruction.encode())
        return found.hexdigest()[:16]


def views(tasks: Sequence[str], tell: Callable[[str], None]) -> Views:
    """The views of some tasks: read, or drawn where the data folder has none yet.

    Nothing of them depends on a policy or on the table: poses are those of the scripted expert, in
    scenes that no model learned from.

    Args:
        tasks: of the tabletop suite.
        tell: takes a line about how far it is.

    Raises:
        UserError: they have to be drawn, and the simulator does not start.
    """
    what = [list(tasks), SCENES, EXPLAINED, dict(TABLETOP.versions())]
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    folder = paths.cache() / "views" / key
    if not (folder / _ASKED).is_file():
        environment = EnvironmentProcess(TABLETOP)
        try:
            _draw(environment, tasks, folder, tell)
        finally:
            environment.close()
    return Views(Pictures.load(folder / _PICTURES, PROBED), tuple(_load(folder / _ASKED)))


def _draw(
    environment: Environment, tasks: Sequence[str], folder: Path, tell: Callable[[str], None]
) -> None:
    wanted: list[Moment] = []
    for seed in seeds.TEST[:SCENES]:
        wanted += moments_of(environment, tasks, seed)
        if (seed + 1) % EXPLAINED == 0:
            tell(f"the expert acted in {seed + 1} of {SCENES} scenes")
    draw(environment, wanted, tell).save(folder / _PICTURES)
    asked = [
        _asked(environment, TABLETOP.spec(task, seed, Condition()))
        for seed in seeds.TEST[:EXPLAINED]
        for task in tasks
    ]
    # Last: where these are, the others are, too.
    with replacing(folder / _ASKED) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            seeds=np.array([one.seed for one in asked]),
            images=np.stack([one.question.picture for one in asked]),
            instructions=np.array([one.question.instruction for one in asked]),
            objects=np.stack([one.object for one in asked]),
        )


def moments_of(environment: Environment, tasks: Sequence[str], seed: int) -> list[Moment]:
    """A seed's start, asked about in one task, and a moment of the expert in the next one.

    Args:
        environment: of the tabletop suite.
        tasks: which; their scenes must be the seed's one scene.
        seed: which.
    """
    first, other = (tasks[(seed + ahead) % len(tasks)] for ahead in (0, 1))
    spec = TABLETOP.spec(other, seed, Condition())
    way = [one.transition.pose for one in rollout(environment, ExpertAgent(), spec)][1:]
    chosen = way[int(np.random.default_rng(seed).integers(len(way)))]
    return [Moment(TABLETOP.spec(first, seed, Condition()), None), Moment(spec, chosen)]


def _asked(environment: Environment, spec: EpisodeSpec) -> Asked:
    inference = first_inference(environment, spec)
    return Asked(spec.seed, inference.question, inference.regions["object"])


def _load(file: Path) -> Iterator[Asked]:
    with np.load(file, allow_pickle=False) as stored:
        found: dict[str, Any] = {name: stored[name] for name in stored.files}
    for seed, image, sentence, mask in zip(
        found["seeds"], found["images"], found["instructions"], found["objects"], strict=True
    ):
        yield Asked(int(seed), Question(image, str(sentence)), mask)
