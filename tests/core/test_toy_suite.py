"""A suite that shares nothing with the others goes through the same rollout and processes."""

import numpy as np
import pytest

from tests.core.toy_suite import CAMERA, TOY, ToyAgent, ToyEnvironment
from vlm4vla.agents.remote import AgentProcess
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.rollout import record
from vlm4vla.errors import UserError
from vlm4vla.eval.evaluate import evaluate
from vlm4vla.workers.environment import EnvironmentPool, EnvironmentProcess

DRIFT = Perturbation("drift", {"x": 1.0, "y": 0.0}, first_step=2, last_step=3)


def result(episode):
    chunks = [(one.step, one.chunk.tolist()) for one in episode.predictions]
    return episode.id, episode.outcome, episode.events, episode.actions.tolist(), chunks


def test_it_is_the_same_in_another_process_with_an_agent_in_a_third():
    process, agent = EnvironmentProcess(TOY), AgentProcess(ToyAgent)
    assert process.perturbations == ("drift",)
    assert (agent.cameras, agent.identity) == ((CAMERA,), ToyAgent().identity)
    for condition in (Condition(), Condition(perturbations=(DRIFT,)), Condition(goal="alternate")):
        spec = TOY.spec("go", 5, condition)
        there = record(TOY, process, agent, spec, "rollout")
        assert result(there) == result(record(TOY, ToyEnvironment(), ToyAgent(), spec, "rollout"))
        assert there.outcome.success
    for what in (process.privileged, process.segmentation):
        with pytest.raises(UserError, match="toy tells no"):
            what()
    with pytest.raises(UserError, match="no poses to draw"):
        process.draw(spec, None)
    assert process.alive
    process.close()
    agent.close()


def test_a_drift_costs_what_it_says():
    """One pixel to the right at steps 2 and 3, so the first picture after them is two off."""
    spec = TOY.spec("go", 5, Condition(perturbations=(DRIFT,)))
    dots = []
    for asked in (spec, TOY.spec("go", 5, Condition())):
        environment = ToyEnvironment()
        environment.reset(asked)
        for _ in range(4):
            seen = environment.step(np.zeros(7), (CAMERA,)).observation.images[CAMERA]
        dots.append(np.argwhere(seen.min(axis=-1) == 255)[0])
    np.testing.assert_array_equal(dots[0] - dots[1], [0, 2])


def test_it_is_lent_by_the_pool_and_evaluated():
    pool = EnvironmentPool(TOY, limit=1)
    spec = TOY.spec("go", 2, Condition())
    with pool.acquire() as process:
        assert record(TOY, process, ToyAgent(), spec, "rollout").outcome.success
    pool.close()
    specs = [TOY.spec("go", seed, Condition()) for seed in (8, 9, 10)]
    told = []
    episodes = evaluate(TOY, specs, ToyAgent, 2, told.append)
    assert [one.spec for one in episodes] == specs and len(told) == 3
    alone = [record(TOY, ToyEnvironment(), ToyAgent(), spec, "evaluation") for spec in specs]
    assert [result(one) for one in episodes] == [result(one) for one in alone]
