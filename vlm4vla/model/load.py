"""Finding and loading a VLM: presets, local folders, the Hub."""

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
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils.hub import cached_file

from vlm4vla.errors import UserError
from vlm4vla.model.family import FAMILIES, Family, family_of
from vlm4vla.model.finite import first_not_finite
from vlm4vla.model.hub import hub_answers
from vlm4vla.model.introspect import introspect
from vlm4vla.model.tokenizer import CORPUS
from vlm4vla.model.vlm import BUILDING, Vlm, make_tiny, quiet, random_weights

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
"""Endings of files that may run code when read; none is ever opened."""

BF16_FROM_BYTES = 400_000_000
"""Folders with more weights than this load in bfloat16; smaller ones keep their precision."""

EXTRAS = ("chat_template.jinja", "preprocessor_config.json", "training.json")

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def load_vlm(
    name: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    init: str = "vlm",
    complete: bool = False,
) -> Vlm:
    """Finds and loads a VLM.

    Args:
        name: `FAMILY:tiny`, `FAMILY:paper`, a Hub id, or a local folder.
        dtype: None for bfloat16, or the stored precision where the weights are small.
        device: None for the accelerator if there is one, else the CPU.
        init: "vlm" for its weights, "scratch" for the same architecture with fresh ones.
        complete: refuse every tensor that the bare model does not use; otherwise the word head of
            a released VLM is passed over.

    Raises:
        UserError: there is no such family, preset, folder or reachable Hub id, its weights do not
            fit it, or its architecture cannot be adapted.
    """
    if init not in ("vlm", "scratch"):
        raise UserError(f"Unknown start of the weights {init!r}; known: vlm, scratch.")
    device = torch.device(device or accelerator())
    source = str(name)
    name, colon, preset = source.partition(":")
    if colon and not Path(source).exists():
        named = FAMILIES.get(name)
        if preset == "tiny":
            vlm = make_tiny(CORPUS, name, dtype=dtype or torch.float32)
            vlm.base.to(device)
            return vlm
        if preset != "paper":
            raise UserError(f"Unknown preset {preset!r} of {name}; known: tiny, paper.")
        source = named.paper
    _check_folder(source)
    local = Path(source).is_dir() or not hub_answers(source)
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local)
        tokenizer = _load_tokenizer(source, local)
        extras = _load_extras(source, local)
        known = family_of(config)
        if known:
            _check_tokens(source, known, tokenizer)
        family, account = (known, ()) if known else introspect(config, tokenizer, extras)
        base = _load_base(source, local, config, dtype, device, init, complete)
    except (OSError, SafetensorError) as error:
        raise _explained(source, local, error) from error
    for line in account:
        print(line, file=sys.stderr)
    return Vlm(family, base, tokenizer, source, extras)


def accelerator() -> str:
    """The device a model goes to when nobody says: "cuda", "mps", or "cpu"."""
    current = torch.accelerator.current_accelerator(check_available=True)
    return current.type if current else "cpu"


def _load_base(
    source: str,
    local: bool,
    config: Any,
    dtype: torch.dtype | None,
    device: torch.device,
    init: str,
    complete: bool,
) -> Any:
    stored = sum(file.stat().st_size for file in Path(source).glob("*.safetensors"))
    small = 0 < stored < BF16_FROM_BYTES
    if init == "scratch":
        kept = config.dtype if small and config.dtype else torch.bfloat16
        return random_weights(config, seed=0, dtype=dtype or kept).to(device)
    # Without them transformers would ask the Hub to convert the pickle, in the user's name.
    if not any(_find(source, name, local) for name in WEIGHTS):
        raise OSError("it has no .safetensors weights.")
    with BUILDING, quiet():
        base, report = AutoModel.from_pretrained(
            source,
            config=config,
            local_files_only=local,
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


def _check_folder(source: str) -> None:
    """Refuses a folder that cannot hold a VLM, before anything is read."""
    folder = Path(source)
    if not folder.is_dir():
        if folder.exists() or source.startswith((".", "/", "~")) or source.count("/") != 1:
            raise UserError(
                f"There is no VLM folder {source}.",
                "Name a folder, a Hub id (OWNER/NAME) or a preset; `vlm4vla backbones` lists them.",
            )
        return
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json, so it is no VLM.")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLES)
        why = f"; {pickles[0]} may be a pickle and is not read" if pickles else ""
        raise UserError(f"{folder} has no .safetensors weights{why}.")


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


def _load_tokenizer(source: str, local: bool) -> Tokenizer:
    file = Path(source) / "tokenizer.json"
    if file.is_file():
        return Tokenizer.from_file(str(file))
    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=local).backend_tokenizer
    except ValueError as error:
        # The Hub's libraries take a file that is absent, or not yet in the cache, for a bad one.
        raise OSError("it has no tokenizer.json.") from error


def _load_extras(source: str, local: bool) -> dict[str, str]:
    found = {name: _find(source, name, local) for name in EXTRAS}
    return {name: Path(file).read_text("utf-8") for name, file in found.items() if file}


def _find(source: str, name: str, local: bool) -> str | None:
    """Path of one file of a folder or Hub id, downloaded if need be; None if it has none."""
    found: str | None = cached_file(
        source, name, local_files_only=local, _raise_exceptions_for_missing_entries=False
    )
    return found


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
    return UserError(f"{source} cannot be read: {str(error).splitlines()[0]}")
