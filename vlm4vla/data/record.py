"""Recording one episode: an agent acts, and every frame is labelled for every valid goal."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import AgentId, AgentSpan, Episode, EpisodeSpec
from vlm4vla.core.observation import Array, Image
from vlm4vla.core.rollout import Recorder, Step, rollout
from vlm4vla.data.demonstrator import (
    Demonstrator,
    Planner,
    chance,
    condition_of,
    draw,
    drawn_of,
)
from vlm4vla.data.lerobot.schema import CHUNK, EVENTS, EpisodeInfo, Recording
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, TRAINED, goal_of, scene_of
from vlm4vla.suites.tabletop.types import State

SOURCE: Final = "collection"
"""`Episode.source` of what is recorded here."""


@dataclass(frozen=True)
class Rig:
    """What a collector works with.

    Attributes:
        environment: the tabletop suite's.
        plan: the expert, for the labels.
        agent: who acts; None for the expert, as a `Demonstrator`.
        name: what to call who acts in the data.
    """

    environment: Environment
    plan: Planner
    agent: Agent | None = None
    name: str = "expert"


class Recorded(NamedTuple):
    """A recorded episode.

    Attributes:
        recording: its frames and labels, for a dataset.
        episode: what happened, for the table of episodes.
    """

    recording: Recording
    episode: Episode


class Frame(NamedTuple):
    """A frame before it is labelled.

    Attributes:
        image: (128, 128, 3) uint8 RGB from the policy camera.
        segmentation: (128, 128) int16 of the same picture.
        state: the true state.
    """

    image: Image
    segmentation: NDArray[np.int16]
    state: State


def name_of(agent: AgentId) -> str:
    """What whoever acted is called in a dataset."""
    return agent.kind if agent.kind == "expert" else f"{agent.kind} {agent.digest}"


def begin(task: Task, seed: int, *, expert: bool) -> tuple[EpisodeSpec, np.random.Generator]:
    """What is recorded for a seed, and where the chance in it goes on.

    Args:
        task: which task the episode is drawn for.
        seed: the scene's seed.
        expert: whether the expert acts, and not a policy.
    """
    usual = TABLETOP.spec(task, seed, Condition(TRAINED))
    rng = chance(usual)
    drawn = draw(scene_of(usual), goal_of(usual), rng, expert=expert)
    return replace(usual, condition=condition_of(drawn, expert=expert)), rng


def info_of(spec: EpisodeSpec, driver: str, names: Sequence[str], movable: int) -> EpisodeInfo:
    """What is true of a whole episode.

    Args:
        spec: what was asked for.
        driver: what whoever acts is called, see `name_of`.
        names: of the movable things, then of the places.
        movable: how many of them can move.
    """
    scene, drawn = scene_of(spec), drawn_of(spec)
    return EpisodeInfo(
        task=next(task for task in TASKS if task == spec.task),
        layout=scene.layout,
        seed=spec.seed,
        goal=goal_of(spec),
        instruction=spec.instruction,
        driver=driver,
        noise=drawn.noise,
        start=drawn.start,
        things=tuple(names),
        movable=movable,
        goals=tuple(str(goal) for goal in scene.goals()),
        versions=dict(TABLETOP.versions()),
    )


def record(rig: Rig, task: Task, seed: int) -> Recorded:
    """Records the episode of a seed.

    Everything random in it comes from the task and the seed, so it is the same in any process.

    Args:
        rig: environment, labels and agent.
        task: which task the episode is drawn for.
        seed: the scene's seed.
    """
    spec, rng = begin(task, seed, expert=rig.agent is None)
    agent = rig.agent or Demonstrator(rig.plan, spec, rng)
    recorder = Recorder(TABLETOP, spec, [AgentSpan(agent.identity)])
    steps: list[Step] = []
    frames: list[Frame] = []
    for step in rollout(rig.environment, agent, spec, cameras=(POLICY_CAMERA,)):
        recorder.add(step)
        steps.append(step)
        if not step.transition.done:
            image = step.transition.observation.images[POLICY_CAMERA]
            segmentation = rig.environment.segmentation()
            frames.append(Frame(image, segmentation, rig.environment.privileged()))
    episode = recorder.episode(SOURCE)
    recording = labelled(
        spec,
        rig.name,
        rig.plan,
        frames,
        actions=episode.actions,
        noisy=agent.noisy if isinstance(agent, Demonstrator) else [False] * len(frames),
        events=[step.transition.events for step in steps[1:]],
        success=steps[-1].transition.success,
    )
    return Recorded(recording, episode)


def labelled(
    spec: EpisodeSpec,
    name: str,
    plan: Planner,
    frames: Sequence[Frame],
    *,
    actions: Array,
    noisy: Sequence[bool],
    events: Sequence[Collection[str]],
    success: bool,
) -> Recording:
    """An episode of T frames with the expert's labels.

    Args:
        spec: the episode.
        name: what to call who acted in the data.
        plan: the expert.
        frames: all but the one at the end.
        actions: (T, 7) as executed.
        noisy: (T,) whether noise was added.
        events: (T,) what each action led to.
        success: whether the last action reached the goal.
    """
    goals = scene_of(spec).goals()
    last = np.arange(len(frames)) == len(frames) - 1
    states = [frame.state for frame in frames]
    return Recording(
        info=info_of(spec, name, states[0].names, states[0].movable),
        images=np.stack([frame.image for frame in frames]),
        state=np.array([[*state.tcp, state.opening] for state in states], np.float32),
        velocity=np.stack([state.velocity for state in states]).astype(np.float32),
        action=actions,
        chunks=np.array(
            [[plan(state, goal, CHUNK) for goal in goals] for state in states], np.float32
        ),
        noisy=np.array(noisy, np.bool_),
        positions=np.stack([state.positions for state in states]).astype(np.float32),
        pixels=np.stack([_pixels(frame.segmentation, len(states[0].names)) for frame in frames]),
        events=np.array([[event in seen for event in EVENTS] for seen in events], np.bool_),
        success=last & success,
        done=last,
    )


def _pixels(segmentation: NDArray[np.int16], things: int) -> NDArray[np.int64]:
    """(k,) how many pixels show each of the k things; neither table nor robot is one."""
    shown = segmentation[segmentation >= 0]
    return np.bincount(shown, minlength=things).astype(np.int64)
