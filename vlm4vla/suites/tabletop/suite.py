"""The tabletop suite: five tasks among several objects, told apart by the instruction alone.

Imports no simulator: what a seed draws and how an episode is judged are known without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np

from vlm4vla import seeds
from vlm4vla.action import ActionSpec, tiny
from vlm4vla.core.condition import GIVEN, OTHER_OBJECT, Condition
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import Episode, EpisodeSpec, Event, Outcome
from vlm4vla.core.motion import Motion
from vlm4vla.errors import UserError
from vlm4vla.language.draw import Split, sentences
from vlm4vla.suites.tabletop.changes import changed_scene
from vlm4vla.suites.tabletop.instructions import Goal, Task, paraphrases
from vlm4vla.suites.tabletop.motion import motion_of
from vlm4vla.suites.tabletop.outcome import CONTROL_HZ, judge
from vlm4vla.suites.tabletop.scene import (
    LAYOUT_OF_TASK,
    TASKS,
    Scene,
    sample_episode,
    sample_scene,
    things,
)
from vlm4vla.suites.tabletop.scene import Episode as Draw
from vlm4vla.suites.tabletop.tasks import limit_of
from vlm4vla.suites.versions import versions

NAME: Final = "tabletop"

POLICY_CAMERA: Final = "policy"
VIEW_CAMERA: Final = "view"
"""The camera that policies see, and the one for people."""

KNOWN: Final = "known"
TRAINED: Final = "trained"
BROAD: Final = "broad"
HELD_OUT: Final = "held-out"
WORDS: Final = (KNOWN, TRAINED, BROAD, HELD_OUT)
"""`Condition.words`: held-out paraphrases of the known sentences; those paraphrases that training
reads; sentences of the whole language; and such of words or combinations that training leaves out
(see `vlm4vla.language.draw.sentences`)."""

_SPLITS: Final[dict[str, Split]] = {
    KNOWN: "known",
    TRAINED: "known",
    BROAD: "broad",
    HELD_OUT: "held-out",
}


@dataclass(frozen=True)
class TabletopSuite:
    """The suite; see `vlm4vla.core.suite.Suite`."""

    name: str = NAME
    tasks: tuple[str, ...] = TASKS
    cameras: tuple[str, ...] = (POLICY_CAMERA, VIEW_CAMERA)
    control_hz: float = CONTROL_HZ

    @property
    def action(self) -> ActionSpec:
        """What its actions mean."""
        return tiny()

    def spec(self, task: str, seed: int, condition: Condition) -> EpisodeSpec:
        """See `Suite.spec`; the words are among `WORDS`."""
        drawn = _draw(task, seeds.checked(seed), condition)
        return EpisodeSpec(NAME, task, seed, drawn.instruction, asdict(drawn.goal), condition)

    def limit(self, spec: EpisodeSpec) -> int:
        """See `Suite.limit`."""
        return limit_of(judged_goal(spec))

    def open(self) -> Environment:
        """See `Suite.open`."""
        from vlm4vla.suites.tabletop.environment import open_environment  # takes seconds: SAPIEN

        return open_environment()

    def tell(
        self, spec: EpisodeSpec, events: Sequence[Event], steps: int, *, stopped: bool = False
    ) -> Outcome:
        """See `Suite.tell`; the kinds are those of `vlm4vla.suites.tabletop.outcome.Kind`."""
        return judge(judged_goal(spec), events, steps, stopped=stopped)

    def motion(self, episode: Episode) -> Motion | None:
        """See `Suite.motion`."""
        return motion_of(episode, scene_of(episode.spec))

    def versions(self) -> Mapping[str, str]:
        """See `Suite.versions`."""
        return versions()


def reference_kind(spec: EpisodeSpec) -> str:
    """How a drawn sentence refers to things: "known", or a kind of `vlm4vla.language.kinds`."""
    return _draw(spec.task, spec.seed, spec.condition).kind


def why_held_out(spec: EpisodeSpec) -> str:
    """What training never holds of a drawn sentence: "word", "combination", or "" for nothing."""
    return _draw(spec.task, spec.seed, spec.condition).held_out


def _draw(task: str, seed: int, condition: Condition) -> Draw:
    known = next((one for one in TASKS if one == task), None)
    if known is None:
        raise UserError(f"Unknown task {task!r}; known: {', '.join(TASKS)}.")
    if condition.words not in WORDS:
        raise UserError(
            f"No sentences are drawn for the words {condition.words!r}.",
            f"Choose {', '.join(WORDS)}, or give the sentence.",
        )
    return sample_episode(
        known,
        seed,
        held_out=condition.words == KNOWN,
        alternate=condition.goal == "alternate",
        words=_SPLITS[condition.words],
    )


def with_sentence(spec: EpisodeSpec, sentence: str, goal: Goal | None) -> EpisodeSpec:
    """The same scene and condition with a sentence that somebody gave, and what it asks for."""
    condition = replace(spec.condition, words=GIVEN)
    asked = asdict(goal) if goal else {}
    return replace(spec, instruction=sentence, goal=asked, condition=condition)


def goal_of(spec: EpisodeSpec) -> Goal:
    """The goal of a tabletop specification.

    Raises:
        UserError: it has none.
    """
    goal = judged_goal(spec)
    if goal is None:
        raise UserError(f"Nothing that could be judged is asked for: {spec.instruction!r}.")
    return goal


def judged_goal(spec: EpisodeSpec) -> Goal | None:
    """The goal of a tabletop specification; None where nothing is judged."""
    return Goal(**spec.goal) if spec.goal else None


def scene_of(spec: EpisodeSpec) -> Scene:
    """The scene of a tabletop specification.

    Raises:
        UserError: its task is none of the suite's.
    """
    scene = sample_scene(LAYOUT_OF_TASK[_task(spec)], spec.seed)
    return changed_scene(scene, spec.condition.perturbations)


def watched_goal(spec: EpisodeSpec) -> Goal | None:
    """The goal that is watched besides the judged one, or None.

    Where an alternate goal is asked for, the scene's first one; where another object's sentence is
    told (`OTHER_OBJECT`), the one that it means.

    Raises:
        UserError: both are asked for, or see `other_goal`.
    """
    told_another = any(one.name == OTHER_OBJECT for one in spec.condition.perturbations)
    if spec.condition.goal == "alternate":
        if told_another:
            raise UserError(
                "An alternate goal and another object's sentence cannot be watched at once.",
                "Choose the goal 'first'.",
            )
        task = next(one for one in TASKS if one == spec.task)
        return sample_episode(task, spec.seed).goal
    return other_goal(spec) if told_another else None


def other_goal(spec: EpisodeSpec) -> Goal:
    """A goal of the same scene and task about another object; the seed decides which.

    Raises:
        UserError: the scene has none.
    """
    goal = judged_goal(spec)
    task = next(one for one in TASKS if one == (goal.task if goal else spec.task))
    scene = sample_scene(LAYOUT_OF_TASK[_task(spec)], spec.seed)
    others = [one for one in scene.goals(task) if goal is None or one.object != goal.object]
    if not others:
        raise UserError(f"No other object can be named in this scene for {task!r}.")
    rng = np.random.default_rng([spec.seed, TASKS.index(task), 13])
    return others[int(rng.integers(len(others)))]


def say(spec: EpisodeSpec, goal: Goal, *, but: str = "") -> str:
    """A sentence for a goal, drawn as the specification's own is; the seed decides which.

    Args:
        spec: the scene, and which words are drawn; typed ones count as known.
        goal: what the sentence asks for.
        but: a sentence that is not wanted.
    """
    rng = np.random.default_rng([spec.seed, TASKS.index(goal.task), 17])
    split = _SPLITS.get(spec.condition.words, "known")
    if split != "known":
        scene = sample_scene(LAYOUT_OF_TASK[_task(spec)], spec.seed)
        drawn = sentences((goal.task, goal.object, goal.target), things(scene), split, rng)
        return next(one.text for one in drawn if one.text != but)
    texts = paraphrases(goal, held_out=spec.condition.words != TRAINED)
    texts = [text for text in texts if text != but]
    return texts[int(rng.integers(len(texts)))]


def _task(spec: EpisodeSpec) -> Task:
    for task in TASKS:
        if task == spec.task:
            return task
    raise UserError(f"Unknown task {spec.task!r}; known: {', '.join(TASKS)}.")
