"""A VLM with what belongs to it: where it comes from, how it is loaded, how it is saved."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from vlm4vla.errors import UserError
from vlm4vla.model import families as _families  # noqa: F401  (registers them)
from vlm4vla.model.family import FAMILIES, Family, family_of
from vlm4vla.model.tokenizer import CORPUS, train_tokenizer

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
"""Endings of files that may run code when read; none is ever opened."""

BF16_FROM_BYTES = 400_000_000
"""Folders with more weights than this load in bfloat16; smaller ones keep their precision."""


@dataclasses.dataclass
class Vlm:
    """A VLM ready to be adapted.

    Attributes:
        family: how it is spoken to.
        base: the bare transformers model (`PreTrainedModel`), without a language-modelling head.
        tokenizer: its tokenizer.
        source: what the user typed, for cards and messages.
    """

    family: Family
    base: Any
    tokenizer: Tokenizer
    source: str

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
    **sizes: int,
) -> Vlm:
    """A small random VLM of a family's real transformers class, with its own tokenizer.

    Args:
        corpus: sentences that the tokenizer learns from.
        family: a registered name.
        vocabulary: largest vocabulary.
        seed: of the weights.
        embedding_std: standard deviation of the word embeddings; None keeps the class's own.
        **sizes: passed to the family's `tiny` (depths, widths, patch, ...).
    """
    chosen = FAMILIES.get(family)
    tokenizer = train_tokenizer(
        corpus, chosen.special, chosen.prompt + " " + chosen.question, vocabulary
    )
    config = chosen.tiny(tokenizer.get_vocab(), **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = AutoModel.from_config(config)
        for parameter in base.parameters():
            # Gemma 3 starts its projection at zero: the picture would have no effect.
            if parameter.ndim == 2 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
        if embedding_std is not None:
            torch.nn.init.normal_(base.get_input_embeddings().weight, std=embedding_std)
    return Vlm(chosen, base.eval(), tokenizer, f"{family}:tiny")


def load_vlm(
    name: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    complete: bool = False,
) -> Vlm:
    """Finds and loads a VLM.

    Args:
        name: `FAMILY:tiny`, `FAMILY:paper`, a Hub id, or a local folder.
        dtype: None for bfloat16, or the stored precision where the weights are small.
        device: None for the accelerator if there is one, else the CPU.
        complete: refuse every tensor that the bare model does not use; otherwise the word head of
            a released VLM is passed over.

    Raises:
        UserError: there is no such family, preset, folder or reachable Hub id.
    """
    device = torch.device(device or accelerator())
    family_name, colon, preset = str(name).partition(":")
    if colon and not Path(name).exists():
        family = FAMILIES.get(family_name)
        if preset == "tiny":
            vlm = make_tiny(CORPUS, family_name)
            vlm.base.to(device, dtype or torch.float32)
            return vlm
        if preset != "paper":
            raise UserError(f"Unknown preset {preset!r} of {family_name}; known: tiny, paper.")
        name = family.paper
    source = str(name)
    config = AutoConfig.from_pretrained(source)
    found = family_of(config)
    if found is None:
        raise UserError(f"No family speaks to {config.model_type!r} models.")
    with quiet():
        base, report = AutoModel.from_pretrained(
            source,
            config=config,
            dtype=dtype or _stored_dtype(Path(source)),
            use_safetensors=True,
            device_map={"": device},
            output_loading_info=True,
        )
    _check_report(source, report, complete)
    return Vlm(found, base.eval(), _load_tokenizer(source), source)


def _check_report(source: str, report: Mapping[str, Any], complete: bool) -> None:
    """Refuses weights that would leave a tensor at its random start."""
    extra = [k for k in report["unexpected_keys"] if complete or not k.endswith("lm_head.weight")]
    for what, names in (
        ("lacks", report["missing_keys"]),
        ("has an unknown", extra),
        ("has the wrong shape for", [key for key, *_ in report["mismatched_keys"]]),
    ):
        if names:
            raise UserError(f"{source} {what} tensor {sorted(names)[0]!r} ({len(names)} in all).")


def _load_tokenizer(source: str) -> Tokenizer:
    file = Path(source) / "tokenizer.json"
    if file.is_file():
        return Tokenizer.from_file(str(file))
    return AutoTokenizer.from_pretrained(source).backend_tokenizer


def accelerator() -> str:
    """The device a model goes to when nobody says: "cuda", "mps", or "cpu"."""
    current = torch.accelerator.current_accelerator(check_available=True)
    return current.type if current else "cpu"


def _stored_dtype(folder: Path) -> torch.dtype | str:
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return "auto" if 0 < stored < BF16_FROM_BYTES else torch.bfloat16


def save_vlm(vlm: Vlm, folder: Path) -> None:
    """Writes a plain transformers folder that `load_vlm` and transformers read."""
    with quiet():
        vlm.base.save_pretrained(folder)
    save_tokenizer(vlm, folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars off a terminal that shows our own lines."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def save_tokenizer(vlm: Vlm, folder: Path) -> None:
    """Writes the tokenizer into an existing folder."""
    PreTrainedTokenizerFast(tokenizer_object=vlm.tokenizer).save_pretrained(folder)
