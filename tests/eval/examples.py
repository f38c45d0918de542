"""An episode as the store and the rows keep it, for tests that change what they are about."""

from vlm4vla.eval.store import Record
from vlm4vla.eval.trial import Trial

RECORD = Record(
    driver="expert",
    task="pick",
    seed=7,
    instruction="lift the red cube",
    condition="",
    goal="pick: red cube",
    outcome="success",
    sentence="It lifted it.",
    steps=14,
    happenings=((9, "reached"),),
)

TRIAL = Trial(
    task="pick",
    seed=1,
    scene="objects: red cube",
    instruction="pick up the red cube",
    held_out=True,
    alternate=False,
    goal="pick: red cube",
    success=True,
    old_goal_done=False,
    steps=12,
    events=(),
    driver_ms=1.0,
    physics_ms=2.0,
)
