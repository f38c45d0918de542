"""Requests: an episode that somebody asked for, everything that came from outside checked."""

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from vlm4vla import seeds
from vlm4vla.ablation.agent import PerturbedAgent
from vlm4vla.ablation.registry import Place, place_of
from vlm4vla.ablation.words import changes_of
from vlm4vla.agents.catalogue import AgentCatalogue, Entry
from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import GIVEN, Condition, Perturbation
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.errors import UserError
from vlm4vla.language.reading import Reading
from vlm4vla.live.instruction import goal_in, understand
from vlm4vla.suites.tabletop.instructions import Goal, Task
from vlm4vla.suites.tabletop.scene import LAYOUT_OF_TASK, TASKS, Scene, sample_scene
from vlm4vla.suites.tabletop.suite import NAME
from vlm4vla.suites.tabletop.tasks import TIME_LIMIT, limit_of

MOST_STEPS: Final = max(TIME_LIMIT.values())
"""No task lasts longer, so this many steps change nothing."""

FEWEST_STEPS: Final = 5

LIVE_PLACES: Final[tuple[Place, ...]] = ("picture", "sentence", "simulator")
"""Where a perturbation of a request may act. What is skipped inside a policy would be skipped for
all visitors, who share it."""


class Choice(NamedTuple):
    """A scene, and the task that its suggested instructions are about."""

    task: Task
    scene: Scene


@dataclass(frozen=True)
class Request:
    """A request for an episode.

    Attributes:
        entry: who acts.
        choice: the scene.
        reading: the sentence, and what it means there.
        goal: what success is judged by; None where nothing is.
        condition: what is changed besides.
    """

    entry: Entry
    choice: Choice
    reading: Reading
    goal: Goal | None
    condition: Condition

    @property
    def understood(self) -> bool:
        """Whether this agent can carry the sentence out."""
        return self.goal is not None or self.entry.identity.kind == "policy"

    @property
    def told(self) -> dict[str, Any]:
        """How the sentence was understood, plain values for the table of episodes."""
        return self.reading.as_json()

    @property
    def spec(self) -> EpisodeSpec:
        """The episode's specification."""
        return EpisodeSpec(
            suite=NAME,
            task=self.choice.task,
            seed=self.choice.scene.seed,
            instruction=self.reading.text,
            goal=asdict(self.goal) if self.goal else {},
            condition=self.condition,
        )

    def new_agent(self) -> Agent:
        """Who acts, behind the layer that carries out what is changed about pictures and words."""
        agent = self.entry.new_agent()
        return PerturbedAgent(agent) if self.condition.perturbations else agent


def take_request(
    catalogue: AgentCatalogue,
    task: object,
    scene: object,
    instruction: object,
    agent: object = "",
    max_steps: object = 0,
    replan_every: object = 0,
    changes: object = "",
) -> Request:
    """Checks what came from outside.

    Args:
        catalogue: who can act.
        task: see `choose`.
        scene: see `choose`.
        instruction: see `vlm4vla.live.instruction.accept`.
        agent: one of the catalogue's names, or "" for the first.
        max_steps: steps after which the episode is ended, a whole number; 0 for the task's own.
        replan_every: actions carried out before the next inference, a whole number; 0 for the
            agent's own.
        changes: perturbations of the picture, the sentence or the simulator for the whole episode,
            as `vlm4vla.ablation.words.changes_of` takes them, spaces between; "" for none.

    Raises:
        UserError: something is not what it should be.
    """
    choice = choose(task, scene)
    reading = understand(instruction, choice.scene)
    goal = goal_in(reading)
    entry = catalogue.entry(agent)
    steps = _whole(max_steps, "The most steps", FEWEST_STEPS, MOST_STEPS)
    actions = _whole(replan_every, "The actions carried out before the next look", 1, entry.chunk)
    condition = Condition(
        words=GIVEN,
        max_steps=steps,
        replan_every=actions,
        perturbations=_perturbations(changes, entry),
    ).without_usual(limit_of(goal), entry.replan_every)
    return Request(entry, choice, reading, goal, condition)


def choose(task: object, number: object) -> Choice:
    """Checks a scene that came from outside, and draws it.

    Args:
        task: one of the suite's tasks.
        number: a seed among `vlm4vla.seeds.UNSEEN`, as a whole number of any numeric type.

    Raises:
        UserError: either is something else.
    """
    known = next((name for name in TASKS if name == task), None)
    if known is None:
        raise UserError("There is no such task.", f"Choose one of {', '.join(TASKS)}.")
    # A bool is an int to Python.
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or number not in seeds.UNSEEN
    ):
        raise UserError(
            f"The scene number must be a whole number from 0 to {seeds.UNSEEN[-1]:,}.",
            "Correct it, or take a new scene.",
        )
    return Choice(known, sample_scene(LAYOUT_OF_TASK[known], int(number)))


def _perturbations(changes: object, entry: Entry) -> tuple[Perturbation, ...]:
    if not isinstance(changes, str):
        raise UserError("What is changed is not text.", "Name perturbations, spaces between.")
    found = changes_of(changes.split())
    for one in found:
        place = place_of(one)
        if place not in LIVE_PLACES or one.first_step or one.last_step is not None:
            raise UserError(
                f"{one.label} cannot be watched live.",
                "Change the picture, the sentence or the simulator, for a whole episode.",
            )
        if entry.identity.kind == "expert" and place != "simulator":
            raise UserError(
                f"The scripted expert looks at no picture and reads the goal, so {one.name} "
                "changes nothing.",
                "Choose a policy.",
            )
    return found


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if value is None:
        return 0
    # A bool is an int to Python.
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if number != 0 and number not in range(least, most + 1):
        raise UserError(f"{name} must be a whole number from {least} to {most}.", "Correct it.")
    return int(number)
