from dataclasses import replace

import numpy as np
import psutil
import pytest

from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Episode, Times
from vlm4vla.errors import UserError
from vlm4vla.eval.evaluate import evaluate
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import goals_among, sample_episode

USUAL = Condition()


def specs(task, seeds, condition=USUAL):
    return [TABLETOP.spec(task, seed, condition) for seed in seeds]


def run(agent, wanted, workers=1, report=lambda episode: None):
    return evaluate(TABLETOP, wanted, agent, workers, report)


def same(one: Episode, other: Episode) -> bool:
    """Whether two episodes are equal but for what depends on the clock."""
    arrays = [
        (one.actions, other.actions),
        (one.trace.joints, other.trace.joints),
        (one.trace.poses, other.trace.poses),
    ]
    bare = [
        replace(e, times=Times(), actions=None, trace=None, predictions=()) for e in (one, other)
    ]
    return bare[0] == bare[1] and all(np.array_equal(a, b) for a, b in arrays)


def test_rows_do_not_depend_on_the_number_of_workers():
    wanted = specs("reach", [3, 4, 5])
    told: list[int] = []
    alone = run(ExpertAgent, wanted, 1, lambda episode: told.append(episode.spec.seed))
    pair = run(ExpertAgent, wanted, 2)
    assert all(same(one, other) for one, other in zip(alone, pair, strict=True))
    assert [episode.spec.seed for episode in alone] == told == [3, 4, 5]
    assert all(one.outcome.success and one.events[-1].name == "success" for one in alone)


class Stubborn(ExpertAgent):
    """Does the scene's first goal, whatever it is asked."""

    def reset(self, instruction):
        super().reset(sample_episode("pick", 6).instruction)


def test_doing_the_old_goal_is_noticed():
    wanted = specs("pick", [6], Condition(goal="alternate"))
    [obedient] = run(ExpertAgent, wanted)
    [stubborn] = run(Stubborn, wanted)
    assert obedient.outcome.success and not obedient.outcome.measures["old_goal_done"]
    assert not stubborn.outcome.success
    assert stubborn.outcome.measures == {"wrong_object": True, "old_goal_done": True}
    other = sample_episode("pick", 6, alternate=True).goal
    assert obedient.spec.goal["object"] == other.object


def test_nothing_is_watched_where_the_first_goal_is_asked_for():
    [episode] = run(ExpertAgent, specs("pick", [6]))
    assert "old_goal_done" not in episode.outcome.measures


class Lost(ExpertAgent):
    """Gives up at once."""

    def act(self, observation):
        raise UserError("I am lost.")


def test_a_failing_agent_ends_the_evaluation_with_its_own_words():
    with pytest.raises(UserError, match="I am lost"):
        run(Lost, specs("pick", range(40)), 2)


class Killer(ExpertAgent):
    """Kills the first simulator that it acts in, in mid-episode."""

    inferences = 0

    def act(self, observation):
        type(self).inferences += 1
        if type(self).inferences == 2:
            [simulator] = [
                child
                for child in psutil.Process().children()
                if "vlm4vla.workers.child" in child.cmdline()
            ]
            simulator.kill()
            simulator.wait(30)
        return super().act(observation)


def test_an_episode_whose_simulator_died_is_run_again():
    told: list[Episode] = []
    [whole] = run(ExpertAgent, specs("reach", [3]), 1, told.append)
    [again] = run(Killer, specs("reach", [3]), 1, told.append)
    assert Killer.inferences > 2 and len(told) == 2
    assert same(again, whole)


def test_an_episode_tells_what_was_asked_and_what_can_be_drawn_again():
    [episode] = run(ExpertAgent, specs("reach", [3]))
    asked = sample_episode("reach", 3, held_out=True)
    assert episode.spec.instruction == asked.instruction
    assert (episode.spec.condition, episode.source) == (Condition(), "evaluation")
    things = [item.name for item in asked.scene.objects]
    assert asked.goal in goals_among(things, [])
    assert episode.trace.joints.shape == (episode.steps + 1, 9)
    assert episode.trace.poses.shape == (episode.steps + 1, len(things), 7)
    assert [one.step for one in episode.predictions] == list(range(0, episode.steps, 4))
