"""What a robot stage starts from: a policy or a VLM, with its weights or new ones."""

import hashlib
from pathlib import Path

import torch

from vlm4vla import action
from vlm4vla.model.checkpoint import MANIFEST
from vlm4vla.model.load import chosen_device, load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vocabulary import take_words
from vlm4vla.train.mimetic_init import start_as_pretrained
from vlm4vla.train.provenance import forget

INITS = ("vlm", "scratch", "mimetic")
"""Where a policy's weights start: "vlm" has the VLM's, "scratch" random ones as its class draws
them, and "mimetic" those of the start that our tiny VLMs' pretraining had."""


def identity_of(source: Path | str, init: str = "vlm", words: Path | str | None = None) -> str:
    """Which weights a run starts from, the same wherever their folder lies.

    A run that was begun on one machine goes on on another, and one whose folder holds other
    weights by now does not.

    Args:
        source: a checkpoint folder, a VLM folder, a preset or a Hub id.
        init: one of `INITS`; with another than "vlm" the architecture alone is taken over.
        words: the VLM whose tokenizer it reads with; None for its own.

    Returns:
        The first sixteen hexadecimal digits of the SHA-256 of a folder's safetensors, in the
        order of their names, or what has none as it was given; then the init, if not "vlm"; then
        the same digits of what the words are from.
    """
    name = str(source)
    if files := sorted(Path(source).glob("*.safetensors")):
        found = hashlib.sha256()
        for file in files:
            with open(file, "rb") as content:
                found.update(hashlib.file_digest(content, "sha256").digest())
        name = found.hexdigest()[:16]
    begun = name if init == "vlm" else f"{name}, {init}"
    return begun if words is None else f"{begun}, words of {identity_of(words)}"


def start_policy(
    source: Path | str,
    init: str,
    device: str | None,
    query_init: str = "embedding",
    seed: int = 0,
    words: Path | str | None = None,
) -> Policy:
    """The policy that a robot stage starts from.

    Its weights are float32, whatever they were stored in: steps of a usual learning rate are
    smaller than what half precision tells apart.

    Args:
        source: a checkpoint folder, a VLM folder, a preset or a Hub id.
        init: one of `INITS`.
        device: "cpu", "cuda", or None.
        query_init: "embedding" or, as in the paper, "zero"; a checkpoint keeps its own query.
        seed: of new weights, the head's among them.
        words: a VLM whose tokenizer it shall read with; None for its own.

    Raises:
        UserError: the source is not there or does not fit, or its language model cannot have the
            start "mimetic", or the words are of another family.
    """
    policy = _weights_to_start_from(source, init, device, query_init, seed)
    if words is not None:
        take_words(policy.vlm, load_vlm(words, torch.float32, torch.device("cpu")).tokenizer)
    return policy


def _weights_to_start_from(
    source: Path | str, init: str, device: str | None, query_init: str, seed: int
) -> Policy:
    if init == "vlm" and (Path(source) / MANIFEST).is_file():
        return Policy.from_pretrained(source, device, dtype=torch.float32)
    # New weights are drawn on the CPU: a seed's are then the same wherever they learn.
    there = chosen_device(device)
    at_first = there if init == "vlm" else torch.device("cpu")
    weights = "vlm" if init == "vlm" else "scratch"
    vlm = load_vlm(source, torch.float32, at_first, weights, seed=seed)
    if init == "mimetic":
        start_as_pretrained(vlm, seed)
    if init != "vlm":
        forget(vlm)
    vlm.base.to(there)
    with torch.random.fork_rng(devices=[]):
        # Two runs of one seed would else begin with different heads.
        torch.manual_seed(seed)
        return Policy.from_vlm(vlm, action.tiny(), query_init=query_init)
