from dataclasses import replace

import numpy as np
import pytest

from tests.core.toy_suite import CAMERA, LIMIT, TOY, ToyAgent, ToyEnvironment
from vlm4vla.core.agent import AgentLayer
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.environment import checked_action
from vlm4vla.core.episode import AgentId
from vlm4vla.core.rollout import Shift, rollout
from vlm4vla.errors import UserError


class Watched(ToyEnvironment):
    """Notes which cameras are asked for at every reset and step, and how often it was reset."""

    def __init__(self):
        self.asked = []
        self.resets = 0

    def reset(self, spec, cameras=()):
        self.asked, self.resets = [tuple(cameras)], self.resets + 1
        return super().reset(spec, cameras)

    def step(self, action, cameras=()):
        self.asked.append(tuple(cameras))
        return super().step(action, cameras)


def spec(seed=3, **condition):
    return TOY.spec("go", seed, Condition(**condition))


def play(agent, asked, **options):
    return list(rollout(ToyEnvironment(), agent, asked, **options))


def inferences(steps):
    """The control steps at which a chunk was predicted."""
    return [index for index, step in enumerate(steps[1:]) if step.chunk is not None]


def same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.action, b.action)
        np.testing.assert_array_equal(a.chunk, b.chunk)
        assert a.transition.observation.step == b.transition.observation.step
        assert a.transition.events == b.transition.events
        images = (a.transition.observation.images, b.transition.observation.images)
        assert images[0].keys() == images[1].keys()
        for camera in images[0]:
            np.testing.assert_array_equal(images[0][camera], images[1][camera])


def test_a_picture_is_taken_where_an_inference_is_made_and_nowhere_else():
    environment, agent = Watched(), ToyAgent()
    steps = list(rollout(environment, agent, spec()))
    assert steps[0].action is None and steps[0].chunk is None
    assert steps[-1].transition.success
    count = len(steps) - 1
    assert agent.told == ["go to the red corner"]
    assert inferences(steps) == list(range(0, count, 2))
    assert [seen.step for seen in agent.seen] == list(range(0, count, 2))
    # A picture at every second step, before the agent acts; the step after the last chunk has
    # one too, since nobody knew that it would be the last.
    assert environment.asked == [(CAMERA,) if i % 2 == 0 else () for i in range(count + 1)]
    for step in steps[1:]:
        assert (step.think_ms > 0) == (step.chunk is not None)
        if step.chunk is not None:
            np.testing.assert_array_equal(step.action, step.chunk[0])


def test_pictures_for_everybody_are_taken_at_every_step():
    environment = Watched()
    steps = list(rollout(environment, ToyAgent(), spec(), cameras=["side", CAMERA]))
    assert environment.asked == [("side", CAMERA)] * len(steps)


def test_the_condition_decides_how_much_of_a_chunk_is_carried_out():
    every = play(ToyAgent(), spec(replan_every=1))
    assert inferences(every) == list(range(len(every) - 1))
    whole = play(ToyAgent(), spec(replan_every=3))
    assert inferences(whole) == list(range(0, len(whole) - 1, 3))
    for index in inferences(whole):
        carried = [step.action for step in whole[1 + index : 4 + index]]
        np.testing.assert_array_equal(carried, whole[1 + index].chunk[: len(carried)])
    # A chunk has three actions, so no more than those can be carried out.
    same(play(ToyAgent(), spec(replan_every=9)), whole)


def test_the_condition_ends_an_episode_and_the_suite_does():
    short = play(ToyAgent(), spec(max_steps=5))
    assert [step.transition.observation.step for step in short] == [0, 1, 2, 3, 4, 5]
    assert not short[-1].transition.done
    slow = play(ToyAgent(stride=0.0), spec())
    assert len(slow) == LIMIT + 1 and slow[-1].transition.events == ("timeout",)
    assert len(play(ToyAgent(stride=0.0), spec(max_steps=LIMIT + 9))) == LIMIT + 1


def test_a_second_agent_takes_over_in_the_middle_of_a_chunk():
    environment, first, second = Watched(), ToyAgent(2.0), ToyAgent(3.0)
    steps = list(rollout(environment, [Shift(0, first), Shift(3, second)], spec()))
    assert [seen.step for seen in first.seen] == [0, 2]
    assert [seen.step for seen in second.seen][:3] == [3, 5, 7]
    assert inferences(steps)[:4] == [0, 2, 3, 5]
    # The first agent's plan for step 3 is dropped: it would have gone on in twos.
    np.testing.assert_array_equal(steps[3].chunk[1][:2], [-2, -2])
    np.testing.assert_array_equal(steps[4].action[:2], [-3, -3])
    assert environment.asked[:6] == [(CAMERA,), (), (CAMERA,), (CAMERA,), (), (CAMERA,)]
    assert environment.resets == 1
    assert second.told[-1] == "go to the red corner"
    assert steps[-1].transition.success


def test_an_agent_that_takes_over_begins_anew():
    """The first agent comes back at step 6: it is told the sentence again."""
    first, second = ToyAgent(1.0), ToyAgent(2.0)
    shifts = [Shift(0, first), Shift(2, second), Shift(6, first)]
    list(rollout(ToyEnvironment(), shifts, spec(max_steps=8)))
    told_at_the_start = 2  # once for each of its shifts
    assert len(first.told) == told_at_the_start + 1
    assert [seen.step for seen in first.seen] == [0, 6]
    assert [seen.step for seen in second.seen] == [2, 4]


def test_a_branch_of_the_same_agent_is_its_parent_again():
    parent = play(ToyAgent(), spec(), cameras=[CAMERA])
    actions = np.array([step.action for step in parent[1:]])
    for branch_step in (0, 2, 4):
        asked = replace(spec(), parent="ab" * 8, branch_step=branch_step)
        agent = ToyAgent()
        branch = play(agent, asked, cameras=[CAMERA], prefix=actions[:branch_step])
        same(branch[branch_step + 1 :], parent[branch_step + 1 :])
        for one, two in zip(branch, parent, strict=True):
            np.testing.assert_array_equal(one.action, two.action)
        assert agent.seen[0].step == branch_step
        assert inferences(branch)[0] == branch_step


def test_a_branch_under_another_condition_leaves_its_parent():
    parent = play(ToyAgent(), spec())
    drift = Perturbation("drift", {"x": 3.0, "y": 0.0}, first_step=4)
    asked = replace(spec(perturbations=(drift,)), parent="ab" * 8, branch_step=4)
    branch = play(
        ToyAgent(), asked, cameras=[CAMERA], prefix=np.array([s.action for s in parent[1:5]])
    )
    images = [step.transition.observation.images[CAMERA] for step in branch]
    undisturbed = play(ToyAgent(), spec(), cameras=[CAMERA])
    for index in range(5):
        picture = undisturbed[index].transition.observation.images[CAMERA]
        np.testing.assert_array_equal(images[index], picture)
    picture = undisturbed[5].transition.observation.images[CAMERA]
    assert not np.array_equal(images[5], picture)


def test_in_a_branch_acts_who_has_taken_over_by_then():
    parent = play(ToyAgent(1.0), spec(max_steps=6))
    actions = np.array([step.action for step in parent[1:]])
    asked = replace(spec(), parent="ab" * 8, branch_step=6)
    for takes_over in (4, 6):
        environment, first, second = Watched(), ToyAgent(1.0), ToyAgent(4.0)
        shifts = [Shift(0, first), Shift(takes_over, second)]
        branch = list(rollout(environment, shifts, asked, prefix=actions))
        assert not first.seen and second.seen[0].step == 6
        assert environment.asked[:8] == [()] * 6 + [(CAMERA,), ()]
        assert branch[-1].transition.success
    first, second = ToyAgent(1.0), ToyAgent(4.0)
    list(rollout(ToyEnvironment(), [Shift(0, first), Shift(9, second)], asked, prefix=actions))
    assert [seen.step for seen in first.seen] == [6, 8]
    assert second.seen[0].step == 9


class Blurred(ToyAgent):
    """An agent that carries out a perturbation itself."""

    perturbations = ("blur",)


class Untouched(ToyEnvironment):
    """Fails when anything moves, or even begins."""

    def reset(self, spec, cameras=()):
        raise AssertionError("it was reset")


def test_what_nobody_carries_out_is_refused_before_anything_begins():
    asked = spec(perturbations=(Perturbation("wind"), Perturbation("blur")))
    with pytest.raises(UserError, match=r"perturbation 'blur'\. Known here: drift\."):
        next(rollout(Untouched(), ToyAgent(), asked))
    with pytest.raises(UserError, match=r"perturbation 'wind'\. Known here: blur, drift\."):
        next(rollout(Untouched(), Blurred(), asked))
    assert play(Blurred(), spec(perturbations=(Perturbation("blur"),)))[-1].transition.success


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"units": ("0.1 m",) * 7}, "units is 0.1 m, .*, not pixel, pixel, nothing"),
        ({"frame": "table"}, "frame is table, not picture"),
        ({"control_mode": "toy_position"}, "control_mode is toy_position, not toy_delta"),
        ({"gripper_closed": -1.0}, "gripper_closed is -1.0, not 0.0"),
    ],
)
def test_actions_of_another_meaning_are_refused_before_anything_begins(changed, told):
    odd = ToyAgent(name="odd one")
    odd.action = replace(TOY.action, **changed)
    for acting in (odd, [Shift(0, ToyAgent()), Shift(3, AgentLayer(odd))]):
        with pytest.raises(UserError, match=f"actions of odd one have another meaning.*{told}"):
            next(rollout(Untouched(), acting, spec()))


def test_how_an_agent_scales_its_actions_and_how_far_it_plans_is_its_own_matter():
    agent = ToyAgent()
    own = {"low": (-2.0,) * 6, "high": (2.0,) * 6, "clip": 0.65, "chunk": 9, "execute": 3}
    agent.action = replace(TOY.action, name="own", statistics="other data", **own)
    assert play(agent, spec())[-1].transition.success
    agent.action = None
    assert play(agent, spec())[-1].transition.success


@pytest.mark.parametrize("given", [None, 3, 5])
def test_a_prefix_of_another_length_is_refused_before_anything_begins(given):
    asked = replace(spec(), parent="ab" * 8, branch_step=4)
    prefix = None if given is None else np.zeros((given, 7), np.float32)
    with pytest.raises(UserError, match=f"branches off at step 4, but {given or 0} actions"):
        next(rollout(Untouched(), ToyAgent(), asked, prefix=prefix))
    with pytest.raises(UserError, match="branches off at step 0, but 2 actions"):
        next(rollout(Untouched(), ToyAgent(), spec(), prefix=np.zeros((2, 7), np.float32)))


@pytest.mark.parametrize(
    ("first_steps", "complaint"),
    [([], "Nobody acts"), ([1], "Nobody acts"), ([0, 5, 3], "steps 0, 5, 3"), ([0, 0], "0, 0")],
)
def test_agents_in_no_order_are_refused_before_anything_begins(first_steps, complaint):
    shifts = [Shift(first, ToyAgent()) for first in first_steps]
    with pytest.raises(UserError, match=complaint):
        next(rollout(Untouched(), shifts, spec()))


class Still(ToyEnvironment):
    """Fails when anything moves."""

    def step(self, action, cameras=()):
        raise AssertionError("it moved")


def test_a_sentence_that_the_second_agent_cannot_follow_is_refused_before_anything_moves():
    class Picky(ToyAgent):
        def reset(self, instruction):
            raise UserError("I cannot go there.")

    for shifts in ([Shift(0, Picky())], [Shift(0, ToyAgent()), Shift(30, Picky())]):
        with pytest.raises(UserError, match="I cannot go there"):
            list(rollout(Still(), shifts, spec()))


def test_an_impossible_specification_is_refused_by_the_environment():
    with pytest.raises(UserError, match="no corner 'green'"):
        play(ToyAgent(), replace(spec(), goal={"task": "go", "corner": "green"}))


def test_agents_are_told_apart_by_who_they_are_not_by_their_name():
    assert ToyAgent(name="a").identity == ToyAgent(name="b").identity
    assert ToyAgent(1.0).identity != ToyAgent(2.0).identity
    assert AgentId("policy", "x") != AgentId("expert", "x")


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (np.full((3, 7), np.inf, np.float32), "toy agent gave actions that are not finite at step"),
        (np.full((3, 7), np.nan, np.float32), "not finite"),
        (np.zeros((0, 7), np.float32), r"gave \(0, 7\) as a chunk at step 2, not \(n, d\)"),
        (np.zeros(7, np.float32), r"gave \(7,\) as a chunk"),
        (None, r"gave \(\) as a chunk"),
    ],
)
def test_what_is_no_chunk_of_finite_actions_is_not_carried_out(chunk, words):
    class Broken(ToyAgent):
        def act(self, observation):
            return chunk if observation.step else super().act(observation)

    with pytest.raises(UserError, match=words):
        play(Broken(), spec())


def test_an_action_is_checked_where_it_is_carried_out():
    assert checked_action([0, 1, 0, 0, 0, 0, -1], 7).dtype == np.float32
    for wrong, words in (
        ([0, 0, np.inf, 0, 0, 0, 1], r"inf.* is not finite, so it is not carried out"),
        ([np.nan] * 7, "not finite"),
        ([1e39] * 7, "not finite"),
        (np.zeros(6), r"7 numbers, not the shape \(6,\)"),
        (np.zeros((1, 7)), r"not the shape \(1, 7\)"),
        (["a"] * 7, "this is none"),
        (None, r"not the shape \(\)"),
    ):
        with pytest.raises(UserError, match=words):
            checked_action(wrong, 7)
