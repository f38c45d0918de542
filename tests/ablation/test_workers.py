import numpy as np

from tests.agents.test_privilege import unprivileged
from vlm4vla.agents.remote import AgentProcess
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.episode import AgentId
from vlm4vla.suites.registry import TABLETOP


class Skipping:
    """Acts by what was prepared."""

    perturbations = ("skip-head",)
    identity = AgentId("policy", "0123", "skipping")
    replan_every = 1
    cameras = ("policy",)
    action = None

    def prepare(self, spec):
        self._number = len(spec.condition.perturbations)

    def reset(self, instruction):
        pass

    def act(self, observation):
        return np.full((1, 7), self._number, np.float32)


def test_a_process_tells_and_prepares_what_its_agent_carries_out():
    process = AgentProcess(Skipping)
    assert process.perturbations == ("skip-head",)
    change = Perturbation("skip-head")
    process.prepare(TABLETOP.spec("pick", 0, Condition(perturbations=(change, change))))
    assert process.act(None)[0, 0] == 2
    process.close()
    plain = AgentProcess(unprivileged)
    assert plain.perturbations == ()
    plain.prepare(TABLETOP.spec("pick", 0, Condition()))
    plain.close()
