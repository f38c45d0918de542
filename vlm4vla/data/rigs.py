"""What collectors and replays work with; imported in the process that owns the simulator."""

from vlm4vla.data.record import Rig
from vlm4vla.driver import Driver
from vlm4vla.suites.tabletop import expert
from vlm4vla.system.vulkan import ensure_driver
from vlm4vla.workers.simulator import SimulatorProcess


def expert_rig() -> Rig:
    """The tabletop simulator in this process, with the expert acting and labelling."""
    ensure_driver()
    # SAPIEN takes seconds to import, and it looks for its driver then.
    from vlm4vla.suites.tabletop.env import Tabletop

    return Rig(Tabletop(), expert.plan, None)


def driven_rig(driver: Driver, name: str) -> Rig:
    """The tabletop simulator in a process of its own, away from whatever the driver computes with.

    Args:
        driver: who acts; the expert labels.
        name: what to call the driver in the data.
    """
    return Rig(SimulatorProcess(), expert.plan, driver, name)
