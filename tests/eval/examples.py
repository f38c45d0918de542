"""An episode for tests that change what it is about."""

import numpy as np

from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Outcome,
    Prediction,
    Times,
    Trace,
)

SPEC = EpisodeSpec(
    suite="tabletop",
    task="pick",
    seed=7,
    instruction="lift the red cube",
    goal={"task": "pick", "object": "red cube", "target": None},
    condition=Condition(),
)

EPISODE = Episode(
    spec=SPEC,
    agents=(AgentSpan(AgentId("expert", "expert", "expert")),),
    outcome=Outcome("success", "It lifted it.", {"wrong_object": False}),
    steps=2,
    events=(Event(1, "reached"), Event(2, "success")),
    actions=np.zeros((2, 7), np.float32),
    predictions=(Prediction(0, np.zeros((4, 7), np.float32)),),
    trace=Trace(np.zeros((3, 9), np.float32), np.zeros((3, 4, 7), np.float32)),
    times=Times(),
    source="evaluation",
    versions={"vlm4vla": "0"},
)
