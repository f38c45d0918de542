"""Finding and loading a VLM: presets, local folders, the Hub."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel

from vlm4vla.errors import UserError
from vlm4vla.model.family import FAMILIES, Family, family_of
from vlm4vla.model.finite import first_not_finite
from vlm4vla.model.forward import rehearse
from vlm4vla.model.hub import hub_answers
from vlm4vla.model.introspect import introspect, without_unused
from vlm4vla.model.source import Source, check_config, check_folder, check_weights, quiet
from vlm4vla.model.tokenizer import CORPUS
from vlm4vla.model.vlm import BUILDING, Vlm, make_tiny, random_weights

BF16_FROM_BYTES = 400_000_000
"""VLMs with more weights than this load in bfloat16; smaller ones keep their precision."""

EXTRAS = (
    "chat_template.jinja",
    "chat_template.json",
    "fast.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "training.json",
)


def load_vlm(
    name: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    init: str = "vlm",
    complete: bool = False,
    seed: int = 0,
) -> Vlm:
    """Finds and loads a VLM.

    Args:
        name: `FAMILY:tiny`, `FAMILY:paper`, a Hub id, or a local folder.
        dtype: None for bfloat16, or the stored precision where the weights are small.
        device: None for the accelerator if there is one, else the CPU.
        init: "vlm" for its weights, "scratch" for the same architecture with fresh ones.
        complete: refuse every tensor that the bare model does not use; otherwise the word head of
            a released VLM is passed over.
        seed: of fresh weights.

    Raises:
        UserError: there is no such family, preset, folder or reachable Hub id, its weights do not
            fit it, or its architecture cannot be adapted.
    """
    if init not in ("vlm", "scratch"):
        raise UserError(f"Unknown start of the weights {init!r}; known: vlm, scratch.")
    device, dtype = chosen_device(device), _precision(dtype)
    source = str(name)
    name, colon, preset = source.partition(":")
    if colon and not os.path.exists(source):
        named = FAMILIES.get(name)
        if preset == "tiny":
            # The preset's own weights are always the same: its name stands for them.
            drawn = seed if init == "scratch" else 0
            vlm = make_tiny(CORPUS, name, seed=drawn, dtype=dtype or torch.float32)
            vlm.base.to(device)
            return vlm
        if preset != "paper":
            raise UserError(f"Unknown preset {preset!r} of {name}; known: tiny, paper.")
        source = named.paper
    check_folder(source)
    files = Source(source, os.path.isdir(source) or not hub_answers(source))
    try:
        check_config(files)
        stored = check_weights(files) if init == "vlm" else None
        config = AutoConfig.from_pretrained(
            source, local_files_only=files.local, trust_remote_code=False
        )
        tokenizer = files.tokenizer()
        extras = {name: text for name in EXTRAS if (text := files.text(name)) is not None}
        known = family_of(config)
        if known:
            _check_tokens(source, known, tokenizer)
        family, account = (known, ()) if known else introspect(config, tokenizer, files)
        if stored is not None:
            _check_size(source, config, stored)
        base = _load_base(files, config, dtype, device, init, complete, seed)
        vlm = Vlm(family, base, tokenizer, source, extras, files)
        called = rehearse(vlm)
        if not known:
            vlm.family, more = without_unused(vlm, called)
            account = (*account, *more)
    except UserError:
        raise
    except (OSError, SafetensorError) as error:
        raise _explained(source, files.local, error) from error
    except Exception as error:  # what a model class raises at odd settings is not agreed on
        raise _unloadable(source, error) from error
    for line in account:
        print(line, file=sys.stderr)
    return vlm


def accelerator() -> str:
    """The device a model goes to when nobody says: "cuda", "mps", or "cpu"."""
    current = torch.accelerator.current_accelerator(check_available=True)
    return current.type if current else "cpu"


PRECISIONS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Those that a VLM can compute in."""


def _precision(dtype: Any) -> torch.dtype | None:
    if dtype is not None and dtype not in PRECISIONS:
        known = ", ".join(str(one) for one in PRECISIONS)
        raise UserError(f"Unknown precision {dtype!r}; known: {known}.")
    return dtype


def chosen_device(wanted: str | torch.device | None) -> torch.device:
    """Where a VLM goes, if there is such a device.

    Args:
        wanted: its name; None for the accelerator if there is one, else the CPU.

    Raises:
        UserError: there is none.
    """
    try:
        device = torch.device(accelerator() if wanted in (None, "") else wanted)
        torch.empty(0, device=device)
    # Each backend has exceptions of its own for a device that is not there.
    except Exception as error:
        here = ", ".join(dict.fromkeys((accelerator(), "cpu")))
        raise UserError(f"There is no device {wanted!r} here.", f"Here are: {here}.") from error
    return device


def _load_base(
    files: Source,
    config: Any,
    dtype: torch.dtype | None,
    device: torch.device,
    init: str,
    complete: bool,
    seed: int,
) -> Any:
    source = files.name
    described = files.find("config.json")
    shards = described.parent.glob("*.safetensors") if described else ()
    small = 0 < sum(file.stat().st_size for file in shards) < BF16_FROM_BYTES
    if init == "scratch":
        kept = config.dtype if small and config.dtype else torch.bfloat16
        return random_weights(config, seed, dtype=dtype or kept).to(device)
    with BUILDING, quiet():
        base, report = AutoModel.from_pretrained(
            source,
            config=config,
            local_files_only=files.local,
            trust_remote_code=False,
            dtype=dtype or ("auto" if small else torch.bfloat16),
            use_safetensors=True,
            device_map={"": device},
            ignore_mismatched_sizes=True,  # reported, and refused below with one sentence
            output_loading_info=True,
        )
    _check_report(source, report, complete)
    if name := first_not_finite(base.named_parameters()):
        raise UserError(f"{source} holds NaN or infinity in the weight {name!r}.")
    return base.eval()


def _check_size(source: str, config: Any, stored: int) -> None:
    """Refuses a configuration of a far larger model than its weights, before it takes memory.

    A part that a configuration leaves out has the size of its class's largest release.

    Args:
        source: what the user typed.
        config: the model's.
        stored: how many numbers its weights are.
    """
    with BUILDING, torch.device("meta"), quiet():
        base = AutoModel.from_config(config, trust_remote_code=False)
    described = sum(parameter.numel() for parameter in base.parameters())
    if described > 2 * stored:
        raise UserError(
            f"{source} describes a model of {described:,} numbers in its config.json, but its "
            f"weights are {stored:,}.",
            "Copy both again: they do not belong together, or one is not whole.",
        )


def _check_tokens(source: str, family: Family, tokenizer: Tokenizer) -> None:
    """Refuses a tokenizer that would spell out a token of the prompt as plain text."""
    text = family.prompt + family.image_token + family.end
    for token in family.special:
        if token in text and tokenizer.token_to_id(token) is None:
            raise UserError(
                f"{source} looks like {family.name}, but its tokenizer has no token {token!r}."
            )


def _check_report(source: str, report: Mapping[str, Any], complete: bool) -> None:
    """Refuses weights that would leave a tensor at its random start."""
    extra = [k for k in report["unexpected_keys"] if complete or not k.endswith("lm_head.weight")]
    for what, names in (
        ("lacks", report["missing_keys"]),
        ("has an unknown", extra),
        ("has the wrong shape for", [key for key, *_ in report["mismatched_keys"]]),
    ):
        if names:
            raise UserError(f"{source} {what} tensor {min(names)!r} ({len(names)} in all).")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explained(source: str, local: bool, error: Exception) -> UserError:
    """One sentence for what went wrong and one for what to do about it."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, GatedRepoError):
            return UserError(
                f"{source} is gated.",
                f"Accept its terms at https://huggingface.co/{source}, then run `hf auth login`.",
            )
        if isinstance(cause, RepositoryNotFoundError):
            return UserError(
                f"The Hub has no public model {source}.",
                "Check the name, or run `hf auth login` if it is private.",
            )
    missed = any(isinstance(cause, LocalEntryNotFoundError) for cause in causes)
    if not Path(source).is_dir() and (local or missed):
        return UserError(
            f"{source} is not in the local cache and the Hub cannot be reached.",
            f"Run `hf download {source}` on a machine that is online and pass the folder.",
        )
    first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return UserError(f"{source} cannot be read: {first}.")


def _unloadable(source: str, error: Exception) -> UserError:
    """One sentence for what a class of transformers raised."""
    # A first line that ends in a colon says nothing without the second.
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    first = " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300].rstrip(".")
    if isinstance(error, ImportError):
        return UserError(
            f"{source} needs a package that is not installed: {first}.",
            "Take what asks for it out of its config.json, or choose another repository.",
        )
    return UserError(
        f"transformers cannot build or run {source}: {type(error).__name__}: {first}.",
        "Compare its config.json with that of a repository that loads.",
    )
