"""The studies as they are run here, and at the paper's size."""

from dataclasses import replace
from typing import Final

from vlm4vla import seeds
from vlm4vla.studies.cell import Scenes
from vlm4vla.studies.study import Scale, Study, Vlm, studies

_STEP: Final[dict[str, str | float]] = {
    "steps": 1_000,
    "batch": 40,
    "learning_rate": 6e-4,
    "warmup": 100,
    "schedule": "cosine",
    "final_rate": 0.05,
    "accumulation": 1,
    "weight_decay": 0.0,
    "clip": 1.0,
    "ema": 0.99,
    "instructions": 1,
    "brightness": 0.2,
}
"""Of a VLM's step on action tokens: as many pictures as two thirds of a policy's training."""

TINY: Final = Scale(
    vlms=(
        # Made by the same command from the same drawings.
        Vlm("qwen3-vl", "vlm-init/qwen3-vl", "c4e5386bcfeeb8cb"),
        Vlm("internvl", "vlm-init/internvl", "19f58d7f56de6855"),
    ),
    preset="paper",
    constants={
        "steps": 1_500,
        "batch": 40,
        "warmup": 250,
        "schedule": "constant",
        "final_rate": 0.05,
        "accumulation": 1,
        "weight_decay": 0.0,
        "clip": 0.0,
        "ema": 0.0,
        "instructions": 1,
        "gripper": 0.01,
        "grounding": 0.0,
        "names": 0.0,
        "alignment": 0.0,
        "brightness": 0.2,
    },
    rates=(2e-4, 6e-4, 1.8e-3),
    # Of qwen3-vl on selection scenes: the VLM does 82 of 120; a random start 9, and none at 6e-4.
    chosen_rates=(6e-4, 2e-4),
    seeds=(0, 1, 2),
    selection_seed=100,
    # 1,400 expert episodes of each of the five tasks, as `vlm4vla collect` records them.
    data="f39f5a9b9280a8ee492e2242dc96e884fdd6fd8da7c6c2297b4cb9ff67f3678d",
    tasks=("reach", "pick"),
    scenes=Scenes(seeds.TEST.start, 100),
    selection=Scenes(seeds.SELECT.start, 60),
    step_preset="tiny",
    step_constants=_STEP,
)
"""What two CPU cores can run: the paper's loss and schedule, 1,500 steps of 40 pictures."""

PAPER: Final = replace(
    TINY,
    vlms=(Vlm("qwen3-vl", "qwen3-vl:paper"), Vlm("internvl", "internvl:paper")),
    constants={**TINY.constants, "steps": 50_000, "batch": 512},
    rates=(1e-5, 2e-5, 5e-5),
    chosen_rates=(2e-5,),
    step_preset="paper",
    # Its scripts name files of 4,000 iterations; it tells no other setting of this step.
    step_constants={
        **_STEP,
        "steps": 4_000,
        "batch": 512,
        "learning_rate": 2e-5,
        "warmup": 250,
        "schedule": "constant",
        "clip": 0.0,
        "ema": 0.0,
    },
    # A released VLM began as its class draws it: the third start would be the second once more.
    inits=("vlm", "scratch"),
)
"""The published VLMs and settings, for many accelerators."""

STUDIES: Final[dict[str, Study]] = studies(TINY)
