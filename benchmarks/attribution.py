"""How long a map takes, against captum's default loop and in forward passes.

    python benchmarks/attribution.py [--rounds 5]

`checkpoints/qwen3vl-tiny` on one of its scenes. A map of 64 cells is made in batches and by
captum's FeatureAblation as it comes, one cell a call (`perturbations_per_eval=1`); both give the
same scores up to rounding. Gradient maps are counted in forward passes of one picture. All take
turns; medians over the rounds, and the lowest, which others on the machine disturb least. One
thread is measured in the processor's seconds for the same reason, several by the clock. Beside them
what the map's products alone would take at the rate of the one product that it has most of.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from captum.attr import FeatureAblation
from torch.utils.flop_counter import FlopCounterMode

from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.attribution.grad_cam import grad_cam
from vlm4vla.attribution.gradient import gradient_times_input
from vlm4vla.attribution.inputs import GRID, Question, covered
from vlm4vla.attribution.occlusion import occlusion
from vlm4vla.attribution.score import BATCH, intact
from vlm4vla.attribution.target import DISPLACEMENT
from vlm4vla.core.condition import Condition
from vlm4vla.model.policy import Policy
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA


def captum_map(policy: Policy, question: Question) -> torch.Tensor:
    """The same occlusion (64,) by captum's default loop."""
    before = intact(policy, question)

    def value(seen: torch.Tensor) -> torch.Tensor:
        pictures = covered(question.picture, ~seen.bool().numpy())
        rows = policy.prompt([question.instruction] * len(pictures))
        return DISPLACEMENT.of(policy.predict(policy.encode(pictures), rows), before, policy.spec)

    with torch.no_grad():
        return FeatureAblation(value).attribute(torch.ones(1, GRID**2))[0]


def products(policy: Policy, question: Question) -> tuple[float, float]:
    """GFLOP of a map's matrix products, and GFLOP/s of a vision layer's widest one alone."""
    with FlopCounterMode(display=False) as counter:
        occlusion(policy, question, DISPLACEMENT)
    weight = policy.base.visual.blocks[0].mlp.linear_fc1.weight.detach()
    wide, narrow = weight.shape
    entries = torch.randn(BATCH * policy.vlm.image_tokens, narrow)
    fastest = min(seconds(lambda: torch.nn.functional.linear(entries, weight)) for _ in range(100))
    return counter.get_total_flops() / 1e9, 2e-9 * len(entries) * wide * narrow / fastest


def seconds(work: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    work()
    return clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    spec = TABLETOP.spec("pick", 0, Condition("known"))
    environment = TABLETOP.open()
    picture = environment.reset(spec, [POLICY_CAMERA]).observation.images[POLICY_CAMERA]
    environment.close()
    policy = Policy.from_pretrained(SHIPPED / "qwen3vl-tiny")
    question = Question(picture, spec.instruction)
    work: dict[str, Callable[[], object]] = {
        "forward pass": lambda: intact(policy, question),
        "map": lambda: occlusion(policy, question, DISPLACEMENT),
        "captum": lambda: captum_map(policy, question),
        "gradient": lambda: gradient_times_input(policy, question, DISPLACEMENT),
        "grad-cam": lambda: grad_cam(policy, question, DISPLACEMENT),
    }
    own = occlusion(policy, question, DISPLACEMENT).scores.ravel()
    difference = np.abs(own - np.asarray(captum_map(policy, question))).max()
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(args.rounds + 1):
        for name, one in work.items():
            found[name].append(seconds(one))
    # The first round fills caches.
    median = {name: float(np.median(times[1:])) for name, times in found.items()}
    ratios = np.array(found["captum"][1:]) / np.array(found["map"][1:])
    print(
        f"{torch.get_num_threads()} threads; a map of {GRID**2} cells {median['map']:.3f}"
        f" s, captum's loop {median['captum']:.3f} s, times "
        f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}); largest difference "
        f"of a score {difference:.4f} mm of {np.abs(own).max():.1f}"
    )
    lowest = {name: min(times[1:]) for name, times in found.items()}
    work_done, rate = products(policy, question)
    print(
        f"lowest: a map {lowest['map']:.3f} s, captum's loop {lowest['captum']:.3f} s; a map's "
        f"products are {work_done:.1f} GFLOP, and one of them runs at {rate:.0f} GFLOP/s alone: "
        f"{work_done / rate:.3f} s at least"
    )
    for name in ("gradient", "grad-cam"):
        passes = np.array(found[name][1:]) / np.array(found["forward pass"][1:])
        print(
            f"{name}: {median[name] * 1e3:.0f} ms, {np.median(passes):.2f} forward passes of "
            f"{median['forward pass'] * 1e3:.0f} ms ({passes.min():.2f} to {passes.max():.2f})"
        )


if __name__ == "__main__":
    main()
