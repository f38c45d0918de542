"""Recording one episode: an agent acts, and every frame is labelled for every valid goal."""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import AgentSpan, Episode
from vlm4vla.core.rollout import Recorder, Step, rollout
from vlm4vla.data.demonstrator import Demonstrator, Planner, condition_of, draw
from vlm4vla.data.schema import CHUNK, EVENTS, EpisodeInfo, Recording
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.instructions import Task
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


def record(rig: Rig, task: Task, seed: int) -> Recorded:
    """Records the episode of a seed.

    Everything random in it comes from the task and the seed, so it is the same in any process.

    Args:
        rig: environment, labels and agent.
        task: which task the episode is drawn for.
        seed: the scene's seed.
    """
    usual = TABLETOP.spec(task, seed, Condition(TRAINED))
    scene, goal = scene_of(usual), goal_of(usual)
    rng = np.random.default_rng([seed, sum(task.encode()), 5])
    drawn = draw(scene, goal, rng, expert=rig.agent is None)
    spec = replace(usual, condition=condition_of(drawn, expert=rig.agent is None))
    agent = rig.agent or Demonstrator(rig.plan, spec, rng)
    goals = scene.goals()
    recorder = Recorder(TABLETOP, spec, [AgentSpan(agent.identity)])
    steps: list[Step] = []
    states: list[State] = []
    pixels: list[NDArray[np.int64]] = []
    for step in rollout(rig.environment, agent, spec, cameras=(POLICY_CAMERA,)):
        recorder.add(step)
        steps.append(step)
        if not step.transition.done:
            states.append(rig.environment.privileged())
            pixels.append(_pixels(rig.environment.segmentation(), len(states[-1].names)))
    episode = recorder.episode(SOURCE)
    before = [step.transition for step in steps[:-1]]
    after = [step.transition for step in steps[1:]]
    noisy = agent.noisy if isinstance(agent, Demonstrator) else [False] * len(after)
    recording = Recording(
        info=EpisodeInfo(
            task=task,
            layout=scene.layout,
            seed=seed,
            goal=goal,
            instruction=spec.instruction,
            driver=rig.name,
            noise=drawn.noise,
            start=drawn.start,
            things=states[0].names,
            movable=states[0].movable,
            goals=tuple(str(other) for other in goals),
            versions=dict(TABLETOP.versions()),
        ),
        images=np.stack([seen.observation.images[POLICY_CAMERA] for seen in before]),
        state=np.array([[*state.tcp, state.opening] for state in states], np.float32),
        velocity=np.stack([state.velocity for state in states]).astype(np.float32),
        action=episode.actions,
        chunks=np.array(
            [[rig.plan(state, other, CHUNK) for other in goals] for state in states], np.float32
        ),
        noisy=np.array(noisy, np.bool_),
        positions=np.stack([state.positions for state in states]).astype(np.float32),
        pixels=np.stack(pixels),
        events=np.array([[name in seen.events for name in EVENTS] for seen in after], np.bool_),
        success=np.array([seen.success for seen in after], np.bool_),
        done=np.array([seen.done for seen in after], np.bool_),
    )
    return Recorded(recording, episode)


def _pixels(segmentation: NDArray[np.int16], things: int) -> NDArray[np.int64]:
    """(k,) how many pixels show each of the k things; neither table nor robot is one."""
    shown = segmentation[segmentation >= 0]
    return np.bincount(shown, minlength=things).astype(np.int64)
