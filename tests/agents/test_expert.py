import numpy as np
import pytest

from vlm4vla.agents.expert import EXPERT, ExpertAgent
from vlm4vla.core.agent import PrivilegedAgent
from vlm4vla.core.condition import Condition
from vlm4vla.core.observation import Observation
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.scene import goals_among
from vlm4vla.suites.tabletop.suite import goal_of

NOTHING = Observation(0, {}, np.zeros(0, np.float32))


def test_it_asks_the_environment_and_needs_no_picture(environment):
    agent = ExpertAgent()
    assert isinstance(agent, PrivilegedAgent)
    assert (agent.identity, agent.cameras, agent.replan_every) == (EXPERT, (), 4)
    spec = TABLETOP.spec("stack", 8, Condition())
    environment.reset(spec)
    agent.watch(environment)
    agent.reset(spec.instruction)
    planned = expert.plan(environment.privileged(), goal_of(spec), 4)
    np.testing.assert_array_equal(agent.act(NOTHING), planned)
    environment.step(planned[0])
    later = expert.plan(environment.privileged(), goal_of(spec), 4)
    assert not np.array_equal(later, planned)
    np.testing.assert_array_equal(agent.act(NOTHING), later)


def test_it_knows_every_goal_of_the_scene_by_its_names(environment):
    agent = ExpertAgent()
    for task in ("reach", "push", "place"):
        spec = TABLETOP.spec(task, 5, Condition(goal="alternate"))
        environment.reset(spec)
        state = environment.privileged()
        goals = goals_among(state.names[: state.movable], state.names[state.movable :])
        assert goal_of(spec) in goals
        agent.watch(environment)
        agent.reset(spec.instruction.upper() + ".")
        np.testing.assert_array_equal(
            agent.act(NOTHING), expert.plan(state, goal_of(spec), 4), err_msg=task
        )


def test_what_it_does_not_understand_is_refused(environment):
    agent = ExpertAgent()
    with pytest.raises(UserError, match=r"no environment.*watch\(\)"):
        agent.reset("pick up the red cube")
    spec = TABLETOP.spec("pick", 3, Condition())
    environment.reset(spec)
    agent.watch(environment)
    with pytest.raises(UserError, match=r"no instruction.*reset\(\) before act\(\)"):
        agent.act(NOTHING)
    for sentence in ("sing", "pick up the pink cube"):
        with pytest.raises(UserError, match=f"does not understand '{sentence}' in this scene"):
            agent.reset(sentence)
