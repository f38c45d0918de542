"""How much longer an adapted VLM's forward takes than the bare VLM's own on the same inputs.

    python benchmarks/adaptation.py [--pairs 11] [--repeats 3]

Qwen3-VL with random weights, 12 vision and 12 language layers. The bare VLM gets the pictures
and the sentences' tokens; the policy gets the same pictures and sentences, and adds the action
query and the paper's head. Both prepare pictures and tokens on the way, as both have to. They
take turns; the medians are over the pairs.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vlm4vla import action
from vlm4vla.core.observation import Image
from vlm4vla.model.images import to_pixels
from vlm4vla.model.policy import Policy
from vlm4vla.model.tokenizer import CORPUS
from vlm4vla.model.vlm import Vlm, make_tiny

SENTENCE = "pick up the red cube"
LAYERS = 12
HEAD = 64
CASES = ((512, 1), (512, 8), (1024, 1))
"""Width and pictures at once."""


def make(width: int) -> Vlm:
    """A random VLM whose vision tower and language model are `width` wide."""
    return make_tiny(
        CORPUS,
        "qwen3-vl",
        vision_layers=LAYERS,
        vision_width=width,
        language_layers=LAYERS,
        language_width=width,
        heads=width // HEAD,
    )


def bare_forward(vlm: Vlm, images: Image) -> Callable[[], Any]:
    """The VLM's own forward on pictures and prompts, without any query."""
    # The rows of a policy that is taken off again, less the query that ends each of them.
    policy = Policy(vlm, action.tiny())
    policy.detach()
    family, config = vlm.family, vlm.base.config
    sentences = [family.text(SENTENCE)] * len(images)

    @torch.inference_mode()
    def forward() -> Any:
        whole = policy.rows(sentences)
        prompts = dataclasses.replace(
            whole,
            ids=whole.ids[:, :-1],
            attention=whole.attention[:, :-1],
            is_image=whole.is_image[:, :-1],
            is_answer=whole.is_answer[:, :-1],
        )
        pictures = to_pixels(images, family.side(config), family.mean_std, policy.device)
        given = family.pixels(pictures.to(vlm.base.dtype), config)
        return vlm.base(
            input_ids=prompts.ids,
            attention_mask=prompts.attention,
            use_cache=False,
            **{**given, **family.inputs(prompts, config)},
        ).last_hidden_state

    return forward


def adapted_forward(vlm: Vlm, images: Image) -> Callable[[], Any]:
    """The policy's forward on pictures and sentences."""
    policy = Policy(vlm, action.tiny(), "embedding").eval()
    sentences = [SENTENCE] * len(images)

    @torch.inference_mode()
    def forward() -> Any:
        return policy(images, sentences)

    return forward


def seconds(forward: Callable[[], Any], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        forward()
    return (time.perf_counter() - began) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=3, help="forwards of each in a pair")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    for width, pictures in CASES:
        images = rng.integers(0, 256, (pictures, 128, 128, 3), dtype=np.uint8)
        bare, adapted = bare_forward(make(width), images), adapted_forward(make(width), images)
        seconds(bare, 2), seconds(adapted, 2)
        # Whoever goes second finds the caches warm from the first, so they take turns in that too.
        found = []
        for pair in range(args.pairs):
            order = (bare, adapted) if pair % 2 else (adapted, bare)
            times = {forward: seconds(forward, args.repeats) for forward in order}
            found.append((times[bare], times[adapted]))
        own, whole = np.array(found).T
        ratios = whole / own
        print(
            f"width {width}, {pictures} at once: bare {np.median(own) * 1e3:.1f} ms, adapted "
            f"{np.median(whole) * 1e3:.1f} ms, ratio {np.median(ratios):.3f} "
            f"(middle half {np.quantile(ratios, 0.25):.3f} to {np.quantile(ratios, 0.75):.3f})"
        )


if __name__ == "__main__":
    main()
