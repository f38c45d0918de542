"""Where a VLM comes from: the files of a local folder or of a Hub id, looked at before loading.

Each kind of folder that cannot be loaded is refused in a sentence that is true of it. No code of a
repository is ever run and no pickle is ever opened.
"""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import transformers
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging
from transformers.utils.hub import cached_file

from vlm4vla.errors import UserError

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
"""Endings of files that may run code when read; none is ever opened."""

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"

_FLOATS: Final = ("F16", "BF16", "F32", "F64")
"""What safetensors calls the precisions that weights may be stored in."""

_OTHERS: Final = (".onnx", ".h5", ".msgpack", ".npz", ".xml", ".tflite", ".mlmodel")
"""Endings of weights that are not transformers' own."""

_UNFINISHED: Final = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".tmp")

_QUANTISED: Final = ("quantization_config", "compression_config", "quantization")
"""Where configurations tell of quantised weights."""

_HUB_ID: Final = re.compile(r"[A-Za-z0-9_][\w.-]*/[\w.-]+", re.ASCII)

_POINTER = b"version https://git-lfs"
_ELSEWHERE = "Pass a repository in transformers' own format; its name often ends in -hf."


@dataclasses.dataclass(frozen=True)
class Source:
    """A local folder or a Hub id.

    Attributes:
        name: as the user typed it.
        local: the Hub is not asked.
    """

    name: str
    local: bool

    def find(self, file: str) -> Path | None:
        """Path of one of its files, downloaded if need be; None if it has none.

        Raises:
            UserError: it is a Git LFS pointer.
        """
        found = cached_file(
            self.name,
            file,
            local_files_only=self.local,
            _raise_exceptions_for_missing_entries=False,
        )
        if found is None:
            return None
        with open(found, "rb") as content:
            if content.read(len(_POINTER)) == _POINTER:
                raise UserError(
                    f"{self.name}/{file} is a Git LFS pointer, not the file itself.",
                    "Run `git lfs pull` there, or `hf download` the repository.",
                )
        return Path(found)

    def text(self, file: str) -> str | None:
        """Content of a small file; None if there is none.

        Raises:
            UserError: it is no text.
        """
        if (found := self.find(file)) is None:
            return None
        try:
            return found.read_text("utf-8")
        except ValueError as error:
            raise UserError(f"{self.name}/{file} is no text: {error}.") from error

    def json(self, file: str) -> dict[str, Any] | None:
        """Content of a JSON file that holds settings; None if there is none.

        Raises:
            UserError: it is no JSON, or holds something else.
        """
        if (content := self.text(file)) is None:
            return None
        try:
            value = json.loads(content)
        # Brackets in brackets in brackets, thousands of them.
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.name}/{file} is not readable: {error}.") from error
        if not isinstance(value, dict):
            raise UserError(f"{self.name}/{file} holds no settings, but a {type(value).__name__}.")
        return value

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer.

        Raises:
            OSError: it has none.
            UserError: it is broken.
        """
        if (file := self.find("tokenizer.json")) is not None:
            try:
                return Tokenizer.from_file(str(file))
            except Exception as error:  # the library raises nothing more special
                raise UserError(f"{self.name}/tokenizer.json is not readable: {error}.") from error
        try:
            with quiet():
                return AutoTokenizer.from_pretrained(
                    self.name, local_files_only=self.local, trust_remote_code=False
                ).backend_tokenizer
        except (ValueError, AttributeError) as error:
            # transformers' messages speak of packages to install, which would not help.
            raise OSError(
                "it has no tokenizer.json. Where transformers can read its tokenizer, "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one."
            ) from error


def check_folder(name: str) -> None:
    """Refuses a folder that cannot hold a VLM, before anything is read."""
    if not name or not os.path.isdir(name):
        if os.path.exists(name) or not _HUB_ID.fullmatch(name):
            raise UserError(
                f"There is no VLM folder {name or repr(name)}.",
                "Name a folder, a Hub id (OWNER/NAME) or a preset; `vlm4vla backbones` lists them.",
            )
        return
    files = sorted(os.listdir(name))
    if not files:
        raise UserError(f"{name} is empty: it has no config.json, so it is no VLM.")
    if "config.json" not in files:
        raise UserError(*_not_transformers(name, files, "has no config.json, so it is no VLM"))
    if ADAPTER in files or not {WEIGHTS, INDEX} & set(files):
        raise UserError(*_not_transformers(name, files, "has no .safetensors weights"))


def _not_transformers(name: str, files: list[str], what: str) -> tuple[str, str]:
    """What the folder holds instead, and what to do about it."""
    if ADAPTER in files:
        return (
            f"{name} holds a LoRA adapter, which is no whole VLM.",
            "Merge it into its base model (`merge_and_unload` of peft) and pass that folder.",
        )
    if any(file.startswith("consolidated") for file in files):
        return f"{name} {what}: its weights are consolidated in their authors' format.", _ELSEWHERE
    tensors = [file for file in files if file.endswith(".safetensors")]
    if any("-of-" in file for file in tensors):
        return f"{name} has shards of weights but no {INDEX}.", "Copy that file, too."
    if tensors and "config.json" in files:
        return (
            f"{name} has its weights in {tensors[0]}, not in {WEIGHTS}.",
            f"Rename it to {WEIGHTS} if it holds the whole VLM.",
        )
    if gguf := [file for file in files if file.endswith(".gguf")]:
        return f"{name} {what}: {gguf[0]} is in GGUF, which only runs.", _ELSEWHERE
    whole = {Path(file).stem: file for file in files if file.endswith(_UNFINISHED)}
    if cut := next((file for stem, file in whole.items() if stem.endswith(".safetensors")), None):
        return f"{name} {what}: {cut} was not downloaded to its end.", "Download it again."
    weights = [file.removesuffix(".index.json") for file in files]
    if pickles := [file for file in weights if Path(file).suffix in PICKLES]:
        return f"{name} {what}; {pickles[0]} may be a pickle and is not read.", _ELSEWHERE
    if others := [file for file in files if file.endswith(_OTHERS)]:
        return f"{name} {what}: {others[0]} is in another format.", _ELSEWHERE
    inside = sorted(file.parent for file in Path(name).glob("*/config.json"))
    if inside and "config.json" not in files:
        return f"{name} {what}.", f"Its folder {inside[0]} has one; perhaps that is meant."
    return f"{name} {what}.", "Copy it again, or name another folder."


def check_config(source: Source) -> None:
    """Refuses a configuration that transformers does not know or that cannot be adapted.

    Raises:
        OSError: there is none.
        UserError: custom code, an unknown or missing model type, quantised weights, broken JSON.
    """
    config = source.json("config.json")
    if config is None:
        raise OSError("it has no config.json.")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise UserError(f"{source.name}/config.json names no model_type, so it is no VLM.")
    if kind not in CONFIG_MAPPING:
        if "auto_map" in config:
            raise UserError(
                f"{source.name} brings code of its own for {kind!r}, which is never run.",
                _ELSEWHERE,
            )
        raise UserError(
            f"transformers {transformers.__version__} does not know the model type {kind!r} of "
            f"{source.name}.",
            "A newer version may.",
        )
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for quantised in map(part.get, _QUANTISED):
            if quantised:
                method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
                raise _quantised(source, str(method or "of some method"))
    for file in ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json"):
        source.json(file)


def _quantised(source: Source, how: str) -> UserError:
    return UserError(
        f"{source.name} has quantised weights ({how}), which can neither be trained nor adapted.",
        "Pass the repository with the original weights.",
    )


def check_weights(source: Source) -> int:
    """Refuses weights that are not safetensors, are cut off or quantised, before any is read.

    Returns:
        How many numbers they are.

    Raises:
        OSError: there are none.
        UserError: an index names a pickle, a file elsewhere or one that is not there; a file is
            not whole; or weights are stored as integers or in eight bits.
    """
    if source.find(ADAPTER):
        raise UserError(*_not_transformers(source.name, [ADAPTER], ""))
    if (file := source.find(WEIGHTS)) is not None:
        return _check_file(source, file)
    index = source.json(INDEX)
    if index is None:
        # Without them transformers would ask the Hub to convert the pickle, in the user's name.
        raise OSError("it has no .safetensors weights.")
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UserError(f"{source.name}/{INDEX} names no weights.")
    if not isinstance(index.get("metadata"), dict):
        raise UserError(
            f'{source.name}/{INDEX} has no "metadata", without which transformers reads no shard.',
            'Put "metadata": {} into it.',
        )
    numbers = 0
    for shard in sorted(set(map(str, shards.values()))):
        if Path(shard).name != shard:
            raise UserError(f"{source.name}/{INDEX} names a file elsewhere: {shard}.")
        if Path(shard).suffix in PICKLES or Path(shard).suffix != ".safetensors":
            raise UserError(
                f"{source.name}/{INDEX} names {shard}, which may be a pickle and is not read.",
                _ELSEWHERE,
            )
        if (file := source.find(shard)) is None:
            raise UserError(f"{source.name} lacks {shard}.", "Copy it again.")
        numbers += _check_file(source, file)
    return numbers


def _check_file(source: Source, file: Path) -> int:
    """How many numbers a file of weights holds, of which only the heads are read."""
    numbers = 0
    try:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                tensor = tensors.get_slice(name)
                kind = str(tensor.get_dtype())
                if kind not in _FLOATS and name.endswith((".weight", ".bias")):
                    raise _quantised(source, f"{name} is stored as {kind}")
                numbers += prod(tensor.get_shape())
    except SafetensorError as error:
        raise UserError(
            f"{source.name} cannot be read: {file.name} is no .safetensors file, or not whole "
            f"({error}).",
            "Copy it again.",
        ) from error
    return numbers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and load reports off a terminal with our own lines."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
