"""What collectors and replays work with; imported in the process that owns the simulator."""

from vlm4vla.core.agent import Agent
from vlm4vla.data.record import Rig
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop import expert
from vlm4vla.workers.environment import EnvironmentProcess


def expert_rig() -> Rig:
    """The tabletop environment in this process, with the expert acting and labelling."""
    return Rig(TABLETOP.open(), expert.plan)


def agent_rig(agent: Agent, name: str) -> Rig:
    """The tabletop environment in a process of its own, away from whatever the agent computes with.

    Args:
        agent: who acts; the expert labels.
        name: what to call the agent in the data.
    """
    return Rig(EnvironmentProcess(TABLETOP), expert.plan, agent, name)
