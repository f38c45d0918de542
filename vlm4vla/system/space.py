"""A folder that is a Hugging Face Space: the app, the shipped policies and their results."""

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from vlm4vla.errors import UserError
from vlm4vla.files import refuse_others, replacing_folder
from vlm4vla.system.doctor import canonical

ROOT: Final = Path(__file__).resolve().parents[2]

MOST_BYTES: Final = 200_000_000

_FILES: Final = (
    "README.md", "LICENSE", "NOTICE", "app.py", "packages.txt", "constraints.txt",
)  # fmt: skip

_FOLDERS: Final = ("vlm4vla", "pages", "assets", "docs")

_REQUIREMENTS: Final = "requirements.txt"
_ATTRIBUTES: Final = ".gitattributes"

_STORED_APART: Final = ("safetensors", "parquet", "mp4", "png")
"""Endings of files that the Hub refuses inside of Git: they are binary."""


def write_space(out: Path, policies: Iterable[Path], *, root: Path = ROOT) -> int:
    """Writes what `huggingface_hub.upload_folder` takes.

    Args:
        out: where; an earlier Space there is replaced.
        policies: checkpoint folders that it ships, laid below `checkpoints`.
        root: the checkout.

    Returns:
        Bytes of all files.

    Raises:
        UserError: this is no checkout, `out` lies in it, something else is at or in `out`, or it
            would be too large.
    """
    missing = [name for name in (*_FILES, *_FOLDERS) if not (root / name).exists()]
    if missing:
        raise UserError(
            f"A Space is made of a checkout, and {root} has no {', '.join(missing)}.",
            "Clone the repository and run the command there.",
        )
    if out.resolve().is_relative_to(root):
        raise UserError(
            f"{out} lies in the checkout, which would then hold the app twice.",
            "Choose a folder outside of it.",
        )
    refuse_others(out, {*_FILES, *_FOLDERS, "checkpoints", _REQUIREMENTS, _ATTRIBUTES}, "Space")
    files = {root / name: Path(name) for name in _FILES}
    for name in _FOLDERS:
        files |= {path: path.relative_to(root) for path in _below(root / name)}
    for policy in policies:
        place = Path("checkpoints") / policy.name
        files |= {path: place / path.relative_to(policy) for path in _below(policy)}
    total = sum(path.stat().st_size for path in files)
    if total >= MOST_BYTES:
        raise UserError(
            f"The Space would have {total / 1e6:.0f} MB, and {MOST_BYTES / 1e6:.0f} are the most.",
            "Move checkpoints that need not be shown out of `checkpoints`.",
        )
    written = {
        _REQUIREMENTS: pinned(
            (root / _REQUIREMENTS).read_text("utf-8"),
            (root / "constraints.txt").read_text("utf-8"),
        ),
        _ATTRIBUTES: "".join(
            f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in _STORED_APART
        ),
    }
    with replacing_folder(out) as folder:
        for source, place in files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / place)
        for name, text in written.items():
            (folder / name).write_text(text, "utf-8")
    return total + sum(len(text.encode()) for text in written.values())


def pinned(requirements: str, constraints: str) -> str:
    """Every requirement in the version that was tested.

    A Space installs requirements.txt before the other files are there, so that it cannot name
    constraints.txt.

    Raises:
        ValueError: a requirement has no tested version.
    """
    tested = {
        canonical(name): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.MULTILINE)
    }
    names = re.findall(r"^([\w.-]+)", requirements, re.MULTILINE)
    if unknown := [name for name in names if canonical(name) not in tested]:
        raise ValueError(f"constraints.txt pins no {', '.join(unknown)}")
    return "".join(f"{name}=={tested[canonical(name)]}\n" for name in names)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        # What Python and tools leave beside sources.
        left = any(part == "__pycache__" or part.startswith(".") for part in parts)
        if path.is_file() and not left:
            yield path
