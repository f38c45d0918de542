"""The checkpoint folder: everything a policy is, in files that say what they are.

    config.json, model*.safetensors, tokenizer*.json   the VLM, as transformers writes it
    action.safetensors                                 the action query and the head
    policy.json                                        action specification, provenance, hashes
    README.md                                          the model card

Loading checks all of it before it builds anything. Nothing is ever unpickled, and no reader writes.
`Policy.from_pretrained` and `Policy.save_pretrained` are the doors to it.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm4vla.action import ActionSpec
from vlm4vla.errors import UserError
from vlm4vla.files import (
    json_text,
    recover,
    replacing,
    replacing_folder,
    sha256_of,
    standing_folder,
    write_json,
)
from vlm4vla.language.normal import NORMALISATION
from vlm4vla.model.card import card
from vlm4vla.model.finite import first_not_finite
from vlm4vla.model.groups import GroupSize
from vlm4vla.model.load import load_vlm
from vlm4vla.model.source import PICKLES, quiet
from vlm4vla.model.vlm import BUILDING, Vlm, save_tokenizer

FORMAT = 1
MANIFEST = "policy.json"
ACTION = "action.safetensors"
CARD = "README.md"
_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
_REQUIRED: dict[str, type] = {
    "format": int,
    "family": str,
    "source": str,
    "action": dict,
    "action_hash": str,
    "dtype": str,
    "files": dict,
}
_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a policy comes from, for its manifest and card.

    Attributes:
        command: the command that made it.
        data: fingerprints of the data it learned from, by name.
        training: settings and gates, as plain values.
        evaluation: results, as `vlm4vla eval --json` prints them.
        notes: sentences for the card.
    """

    command: str = ""
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a policy is made of.

    Attributes:
        vlm: with its weights.
        spec: the meaning of the actions.
        action: the action query and the head's tensors, by name.
    """

    vlm: Vlm
    spec: ActionSpec
    action: Mapping[str, Tensor]

    def copy_action_to(self, wanted: Mapping[str, Tensor], folder: str | Path) -> None:
        """Fills `wanted`, tensors by name, with the query and the head.

        Args:
            wanted: the tensors to fill.
            folder: where these were read, for the message.

        Raises:
            UserError: a tensor is missing, unknown or of another shape.
        """
        file = Path(folder) / ACTION
        if odd := sorted(wanted.keys() ^ self.action.keys()):
            state = "lacks" if odd[0] in wanted else "has an unknown"
            raise UserError(f"{file} {state} tensor {odd[0]!r} ({len(odd)} in all).")
        for name, tensor in self.action.items():
            if tensor.shape != wanted[name].shape:
                found, shape = tuple(tensor.shape), tuple(wanted[name].shape)
                raise UserError(f"{file} holds {name!r} as {found}, not {shape}.")
        with torch.no_grad():
            for name, tensor in self.action.items():
                wanted[name].copy_(tensor)


def write(
    folder: str | Path,
    checkpoint: Checkpoint,
    sizes: Mapping[str, GroupSize],
    trainable: Sequence[str],
    provenance: Provenance,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes a checkpoint folder; an existing one is replaced when the new one is complete.

    Args:
        folder: where; its parent is made if needed.
        checkpoint: what to write.
        sizes: parameters by freeze group, for the manifest.
        trainable: names of the parameters that learned, for the manifest.
        provenance: where the policy comes from.
        dtype: of the tensors in the files; None keeps each as it is. The policy computes in its
            own precision again after loading.

    Raises:
        UserError: the folder holds something else, a weight is not finite in that precision, or
            the disk is full or not writable.
    """
    folder = Path(folder)
    if folder.is_dir() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise UserError(f"{folder} holds files that are no checkpoint.", "Choose another folder.")
    vlm, spec = checkpoint.vlm, checkpoint.spec
    with replacing_folder(folder) as new:
        _write_tensors(checkpoint, new, dtype)
        manifest = {
            "format": FORMAT,
            "family": vlm.family.name,
            "source": vlm.source,
            "action": spec.to_json(),
            "action_hash": spec.hash,
            "dtype": str(vlm.base.dtype).removeprefix("torch."),
            "normalisation": NORMALISATION,
            "parameters": {group: size._asdict() for group, size in sizes.items()},
            "trainable": list(trainable),
            "libraries": {"python": sys.version.split()[0]}
            | {name: version(name) for name in _LIBRARIES},
            "files": {
                file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
                for file in sorted(new.iterdir())
            },
            **dataclasses.asdict(provenance),
        }
        (new / CARD).write_text(card(manifest), "utf-8")
        (new / MANIFEST).write_text(json_text(manifest), "utf-8")


def _write_tensors(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype | None) -> None:
    base = checkpoint.vlm.base
    stored = {name: _as(dtype, tensor) for name, tensor in base.state_dict().items()}
    action = {name: _as(dtype, tensor).contiguous() for name, tensor in checkpoint.action.items()}
    weights = [(name, stored[name]) for name, _ in base.named_parameters() if name in stored]
    if name := first_not_finite([*action.items(), *weights]):
        precision = f" in {str(dtype).removeprefix('torch.')}" if dtype else ""
        raise UserError(
            f"The weight {name!r} holds NaN or infinity{precision}, so nothing is saved.",
            "Go back to a checkpoint from before that, or save in another precision.",
        )
    with BUILDING, quiet():
        base.save_pretrained(folder, state_dict=stored)
    save_tokenizer(checkpoint.vlm, folder)
    save_file(action, folder / ACTION, metadata={"format": "pt"})
    for file in folder.iterdir():
        file.chmod(0o644)


def _as(dtype: torch.dtype | None, tensor: Tensor) -> Tensor:
    """A tensor in a precision; what counts or chooses stays as it is."""
    return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor


def record_evaluation(folder: str | Path, evaluation: Mapping[str, Any]) -> None:
    """Puts results into the manifest and the card; the checkpoint's hash stays what it was."""
    folder = Path(folder)
    recover(folder)
    manifest = verify(folder) | {"evaluation": dict(evaluation)}
    with replacing(folder / CARD) as temporary:
        temporary.write_text(card(manifest), "utf-8")
    write_json(folder / MANIFEST, manifest)


def read(
    folder: str | Path,
    device: str | torch.device | None = None,
    family: str | None = None,
    dtype: torch.dtype | None = None,
) -> Checkpoint:
    """Reads a checkpoint folder, after checking that it is whole and what it says it is.

    Args:
        folder: what `write` wrote.
        device: None for the accelerator if there is one, else the CPU.
        family: refuse any other family than this one.
        dtype: of the VLM's weights; None for the precision it was saved from.

    Raises:
        UserError: anything is missing, foreign, changed, too long, pickled, contradictory or not
            finite.
    """
    folder = standing_folder(Path(folder))
    manifest = verify(folder)
    name = manifest["family"]
    if family is not None and family != name:
        raise UserError(f"{folder} is a checkpoint of the family {name!r}, not of {family!r}.")
    spec = ActionSpec.from_json(manifest["action"])
    action = load_file(folder / ACTION)
    if broken := first_not_finite(action.items()):
        raise UserError(f"{folder / ACTION} holds NaN or infinity in {broken!r}.")
    vlm = load_vlm(folder, dtype or _DTYPES[manifest["dtype"]], device, complete=True)
    if vlm.family.name != name:
        raise UserError(f"{folder} says family {name!r} but holds {vlm.family.name!r} weights.")
    vlm.source = manifest["source"]
    return Checkpoint(vlm, spec, action)


def verify(folder: str | Path) -> dict[str, Any]:
    """Checks a checkpoint folder without loading it and returns its manifest.

    Raises:
        UserError: see `read`.
    """
    folder = standing_folder(Path(folder))
    if not folder.is_dir():
        raise UserError(f"There is no checkpoint folder {folder}.")
    if not (folder / MANIFEST).is_file():
        is_vlm = (folder / "config.json").is_file()
        raise UserError(
            f"{folder} has no {MANIFEST}, so it is no policy.",
            "It is a bare VLM: use Policy.from_vlm." if is_vlm else "",
        )
    manifest = _read_manifest(folder / MANIFEST)
    if manifest["format"] != FORMAT:
        raise UserError(
            f"{folder} has checkpoint format {manifest['format']}; this version reads {FORMAT}."
        )
    if manifest["dtype"] not in _DTYPES:
        raise UserError(
            f"{folder / MANIFEST} names the precision {manifest['dtype']!r}; "
            f"known: {', '.join(_DTYPES)}."
        )
    # Earlier ones do not declare it: they were taught sentences that it leaves as they are.
    if manifest.get("normalisation", NORMALISATION) != NORMALISATION:
        raise UserError(
            f"{folder} reads sentences normalised by {manifest['normalisation']!r}; "
            f"this version normalises by {NORMALISATION!r}."
        )
    if ActionSpec.from_json(manifest["action"]).hash != manifest["action_hash"]:
        raise UserError(f"The action specification in {folder / MANIFEST} was changed.")
    _verify_files(folder, manifest["files"])
    return manifest


def _read_manifest(file: Path) -> dict[str, Any]:
    """Reads `policy.json` and refuses what is not of the kind it must be."""
    try:
        manifest = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not readable: {error}.") from error
    if not isinstance(manifest, dict):
        raise UserError(f"{file} holds no settings, but a {type(manifest).__name__}.")
    for key, kind in _REQUIRED.items():
        if key not in manifest:
            raise UserError(f"{file} lacks {key!r}.")
        if not isinstance(manifest[key], kind):
            raise UserError(f"{file} holds a wrong {key!r}: {str(manifest[key])[:60]}.")
    for name, entry in manifest["files"].items():
        whole = isinstance(entry, dict) and {"bytes", "sha256"} <= entry.keys()
        if not whole or Path(name).name != name:
            raise UserError(f"{file} describes the file {name!r} wrongly.")
    return manifest


def _verify_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for file in sorted(folder.iterdir()):
        if file.suffix in PICKLES:
            raise UserError(f"{file} is or may be a pickle, which can run code.", "Remove it.")
        listed = file.name in files or file.name == MANIFEST or file.suffix == ".md"
        if not listed and not file.name.startswith("."):
            raise UserError(f"{file} does not belong to the checkpoint.", "Remove it.")
    for name in ("config.json", "tokenizer.json", ACTION, *files):
        file, entry = folder / name, files.get(name)
        if entry is None or not file.is_file():
            raise UserError(f"{folder} lacks {name}.", "Copy the checkpoint again.")
        size = file.stat().st_size
        if size != entry["bytes"]:
            way = "shorter" if size < entry["bytes"] else "longer"
            raise UserError(f"{file} is {way} ({size} bytes) than the {entry['bytes']} it had.")
        if sha256_of(file) != entry["sha256"]:
            raise UserError(f"{file} is not the file that was saved.", "Its SHA-256 differs.")


def checkpoint_hash(folder: str | Path) -> str:
    """Sixteen hexadecimal digits that change with any weight, word or action statistic.

    They also change with the precision that it computes in, and not when an evaluation is
    recorded. The files are read and checked.
    """
    folder = standing_folder(Path(folder))
    manifest = verify(folder)
    parts = {key: manifest[key] for key in ("family", "action_hash", "files")}
    config = json.loads((folder / "config.json").read_text("utf-8"))
    # Digests from before precision counted stay what they were.
    if manifest["dtype"] != config.get("dtype", manifest["dtype"]):
        parts["dtype"] = manifest["dtype"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
