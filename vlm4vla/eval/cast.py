"""Who can act: every checkpoint in some folders, and the scripted expert."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from vlm4vla import paths
from vlm4vla.driver import CHUNK, Driver, ExpertDriver
from vlm4vla.errors import UserError

EXPERT: Final = "expert"

SHIPPED: Final = Path(__file__).resolve().parents[2] / "checkpoints"
"""Checkpoints that come with the repository."""

_MANIFEST: Final = "policy.json"
_LOADED: Final = 2
"""Checkpoints kept in memory: the one most visitors use, and one to compare it with."""


@dataclass(frozen=True)
class Actor:
    """A driver that is ready to act.

    Attributes:
        name: what it is chosen by.
        identity: `EXPERT`, or the hash of the checkpoint; stands in every record.
        kind: see `vlm4vla.driver.Driver`.
        chunk: actions planned at once.
        execute: how many of them are carried out before the next look.
        new_driver: makes the driver of one episode, given how many actions it carries out before
            the next look; 0 for the usual number.
    """

    name: str
    identity: str
    kind: Literal["expert", "policy"]
    chunk: int
    execute: int
    new_driver: Callable[[int], Driver]


def _new_expert(execute: int) -> Driver:
    return ExpertDriver(execute or CHUNK)


_EXPERT: Final = Actor(EXPERT, EXPERT, "expert", CHUNK, CHUNK, _new_expert)


class Cast:
    """Finds drivers by name. Folders are looked at anew each time, so new checkpoints are found.

    Args:
        roots: folders of checkpoint folders; a name in an earlier one hides the same in a later
            one. None for the repository's `checkpoints` and the data folder's.
    """

    def __init__(self, roots: Sequence[Path] | None = None) -> None:
        self._roots = (SHIPPED, paths.home() / "checkpoints") if roots is None else tuple(roots)
        # transformers switches global state while it loads: two loads at once leave it broken.
        self._loading = threading.Lock()
        self._actors: dict[Path, tuple[int, Actor]] = {}
        self._hashes: dict[Path, tuple[int, str]] = {}

    def names(self) -> list[str]:
        """Every driver that can be chosen; the first is the one to begin with."""
        return [*self._folders(), EXPERT]

    def actor(self, name: object) -> Actor:
        """The driver of a name; a checkpoint is loaded when it is first asked for, then shared.

        Args:
            name: one of `names()`, or "" for the first.

        Raises:
            UserError: there is none of that name, or its checkpoint is damaged.
        """
        chosen = name or self.names()[0]
        if chosen == EXPERT:
            return _EXPERT
        folder = next((path for known, path in self._folders().items() if known == chosen), None)
        if folder is None:
            raise UserError("There is no such driver.", f"Choose one of {', '.join(self.names())}.")
        with self._loading:
            age = _age(folder)
            known_age, actor = self._actors.pop(folder, (0, _EXPERT))
            if known_age != age:
                actor = _load(str(chosen), folder)
            self._actors[folder] = (age, actor)
            while len(self._actors) > _LOADED:
                self._actors.pop(next(iter(self._actors)))
            return actor

    def loaded(self, name: object) -> bool:
        """Whether `actor` answers at once."""
        folder = self._folders().get(str(name or self.names()[0]))
        return folder is None or folder in self._actors

    def name_of(self, identity: str) -> str:
        """The name of a record's driver, or "" if it is not here any more."""
        if identity == EXPERT:
            return EXPERT
        for name, folder in self._folders().items():
            if self._hash(folder) == identity:
                return name
        return ""

    def evaluation(self, name: str) -> Mapping[str, Any]:
        """What a checkpoint says of its success, as `vlm4vla eval --json` prints it, or nothing."""
        folder = self._folders().get(name)
        if folder is None:
            return {}
        try:
            manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        found = manifest.get("evaluation") if isinstance(manifest, dict) else None
        return found if isinstance(found, dict) else {}

    def warm(self) -> None:
        """Loads the driver to begin with in the background."""
        if len(self.names()) > 1:
            threading.Thread(target=self._warm, name="warm-cast", daemon=True).start()

    def _warm(self) -> None:
        try:
            self.actor("")
        except UserError as error:
            # Whoever chooses it is told the same.
            print(f"The checkpoint to begin with cannot be loaded: {error}", flush=True)

    def _folders(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for root in self._roots:
            for manifest in sorted(root.glob(f"*/{_MANIFEST}")):
                found.setdefault(manifest.parent.name, manifest.parent)
        return found

    def _hash(self, folder: Path) -> str:
        from vlm4vla.model.checkpoint import checkpoint_hash  # takes seconds: torch

        age = _age(folder)
        known_age, digest = self._hashes.get(folder, (0, ""))
        if known_age != age:
            try:
                digest = checkpoint_hash(folder)
            except UserError:
                digest = ""
            self._hashes[folder] = (age, digest)
        return digest


def label_of(identity: str) -> str:
    """What people are shown for a record's driver."""
    return ExpertDriver().label if identity == EXPERT else f"policy {identity[:12]}"


def _age(folder: Path) -> int:
    try:
        return (folder / _MANIFEST).stat().st_mtime_ns
    except OSError:
        return -1


def _load(name: str, folder: Path) -> Actor:
    import torch  # takes seconds

    from vlm4vla.eval.policy_driver import PolicyDriver, load_driver
    from vlm4vla.model.checkpoint import checkpoint_hash

    if not torch.cuda.is_available():
        # The simulators need the other cores, and `vlm4vla eval` computes with one thread, too: the
        # same sums in the same order, so the same episode.
        torch.set_num_threads(1)
    first = load_driver(folder)

    def new_driver(execute: int) -> Driver:
        return PolicyDriver(first.policy, first.label, execute)

    spec = first.policy.spec
    return Actor(name, checkpoint_hash(folder), "policy", spec.chunk, spec.execute, new_driver)
