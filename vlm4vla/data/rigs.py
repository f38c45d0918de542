"""What collectors and replays work with; imported in the process that owns the simulator."""

from vlm4vla.data.record import Rig


def expert_rig() -> Rig:
    """The tabletop simulator in this process, with the expert acting and labelling."""
    # SAPIEN takes seconds to import, and the parent of the collectors does not need it.
    from vlm4vla.sim.env import Tabletop
    from vlm4vla.sim.expert import plan

    return Rig(Tabletop(), plan, None)
