"""A VLM with what belongs to it: family, tokenizer, weights; how a small one is made and saved."""

import dataclasses
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, PreTrainedTokenizerFast

from vlm4vla.model import families as _families  # noqa: F401  (registers them)
from vlm4vla.model.family import FAMILIES, Family
from vlm4vla.model.source import Source, quiet
from vlm4vla.model.tokenizer import train_tokenizer

BUILDING = threading.RLock()
"""Held while modules are made or loaded.

transformers then exchanges torch's initialisers and its default precision for the whole process,
so of two threads at it at once, one would get random or unfilled weights. Calls need no lock.
"""


@dataclasses.dataclass
class Vlm:
    """A VLM ready to be adapted.

    Attributes:
        family: how it is spoken to.
        base: the bare transformers model (`PreTrainedModel`), without a language-modelling head.
        tokenizer: its tokenizer.
        source: what the user typed, for cards and messages.
        extras: further small text files of its folder, name to content, kept when it is saved.
        repository: what it was loaded from; None for one that was made here.
    """

    family: Family
    base: Any
    tokenizer: Tokenizer
    source: str
    extras: Mapping[str, str] = dataclasses.field(default_factory=dict)
    repository: Source | None = None

    @property
    def width(self) -> int:
        """Hidden size of the language model."""
        return int(self.words.shape[1])

    @property
    def words(self) -> nn.Parameter:
        """Word embeddings (V, D)."""
        return cast(nn.Parameter, self.base.get_input_embeddings().weight)

    @property
    def image_tokens(self) -> int:
        """Tokens a picture takes in the prompt."""
        return self.family.image_tokens(self.base.config)


def make_tiny(
    corpus: Iterable[str],
    family: str = "qwen3-vl",
    vocabulary: int = 1024,
    seed: int = 0,
    embedding_std: float | None = None,
    dtype: torch.dtype = torch.float32,
    **sizes: int,
) -> Vlm:
    """A small random VLM of a family's real transformers class, with its own tokenizer.

    Args:
        corpus: sentences that the tokenizer learns from.
        family: a registered name.
        vocabulary: largest vocabulary.
        seed: of the weights.
        embedding_std: standard deviation of the word embeddings; None keeps the class's own.
        dtype: of the weights.
        **sizes: passed to the family's `tiny` (depths, widths, patch, ...).
    """
    chosen = FAMILIES.get(family)
    tokenizer = train_tokenizer(
        corpus, chosen.special, chosen.prompt + " " + chosen.question, vocabulary
    )
    base = random_weights(chosen.tiny(tokenizer.get_vocab(), **sizes), seed, dtype)
    if embedding_std is not None:
        draw = torch.Generator().manual_seed(seed)
        torch.nn.init.normal_(base.get_input_embeddings().weight, 0, embedding_std, draw)
    return Vlm(chosen, base, tokenizer, f"{family}:tiny")


def random_weights(config: Any, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    """A model of a config's class with fresh weights; the global random state stays as it is.

    The model is built in `dtype`, not converted to it: rotary frequencies must keep float32 while
    other buffers follow the weights, and only the class knows which is which.
    """
    with BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = AutoModel.from_config(config, dtype=dtype, trust_remote_code=False)
        for parameter in base.parameters():
            # Gemma 3 starts its projection at zero: the picture would have no effect.
            if parameter.ndim == 2 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return base.eval()


def save_vlm(vlm: Vlm, folder: Path) -> None:
    """Writes a plain transformers folder that `load_vlm` and transformers read."""
    with BUILDING, quiet():
        vlm.base.save_pretrained(folder)
    save_tokenizer(vlm, folder)


def save_tokenizer(vlm: Vlm, folder: Path) -> None:
    """Writes the tokenizer and the small files into an existing folder."""
    PreTrainedTokenizerFast(tokenizer_object=vlm.tokenizer).save_pretrained(folder)
    for name, content in vlm.extras.items():
        (folder / name).write_text(content, "utf-8")
