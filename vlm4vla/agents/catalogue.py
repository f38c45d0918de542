"""Who can act: every checkpoint in some folders, and the scripted expert."""

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vlm4vla import paths
from vlm4vla.agents.expert import CHUNK, EXPERT, ExpertAgent
from vlm4vla.agents.facts import Facts, facts
from vlm4vla.core.agent import Agent
from vlm4vla.core.episode import AgentId
from vlm4vla.errors import UserError

SHIPPED: Final = Path(__file__).resolve().parents[2] / "checkpoints"
"""Checkpoints that come with the repository."""

FIRST: Final = "qwen3vl-broad-tiny"
"""The checkpoint to begin with, where it is there."""

_MANIFEST: Final = "policy.json"
_LOADED: Final = 2
"""Checkpoints kept in memory: the one most visitors use, and one to compare it with."""


@dataclass(frozen=True)
class Entry:
    """An agent that is ready to act.

    Attributes:
        name: what it is chosen by.
        identity: who it is; stands in every episode.
        folder: its checkpoint; None for the expert.
        chunk: actions planned at once.
        replan_every: how many of them are carried out before the next inference.
        new_agent: makes the agent of one episode.
    """

    name: str
    identity: AgentId
    folder: Path | None
    chunk: int
    replan_every: int
    new_agent: Callable[[], Agent]


_EXPERT: Final = Entry(EXPERT.name, EXPERT, None, CHUNK, ExpertAgent.replan_every, ExpertAgent)


class AgentCatalogue:
    """A catalogue of agents by name.

    Folders are looked at anew each time, so new checkpoints are found.

    Args:
        roots: folders of checkpoint folders; a name in an earlier one hides the same in a later
            one. None for the repository's `checkpoints` and the data folder's.
    """

    def __init__(self, roots: Sequence[Path] | None = None) -> None:
        self._roots = (SHIPPED, paths.home() / "checkpoints") if roots is None else tuple(roots)
        # transformers switches global state while it loads: two loads at once leave it broken.
        self._loading = threading.Lock()
        self._entries: dict[Path, tuple[int, Entry]] = {}
        self._hashes: dict[Path, tuple[int, str]] = {}

    def names(self) -> list[str]:
        """Every agent that can be chosen: the one to begin with is first, the expert last."""
        policies = sorted(self._folders(), key=lambda name: name != FIRST)
        return [*policies, EXPERT.name]

    def entry(self, name: object) -> Entry:
        """The agent of a name; a checkpoint is loaded when it is first asked for, then shared.

        Args:
            name: one of `names()`, or "" for the first.

        Raises:
            UserError: there is none of that name, or its checkpoint is damaged.
        """
        chosen = name or self.names()[0]
        if chosen == EXPERT.name:
            return _EXPERT
        folder = next((path for known, path in self._folders().items() if known == chosen), None)
        if folder is None:
            raise UserError("There is no such agent.", f"Choose one of {', '.join(self.names())}.")
        with self._loading:
            age = _age(folder)
            known_age, entry = self._entries.pop(folder, (0, _EXPERT))
            if known_age != age:
                entry = _load(str(chosen), folder)
            self._entries[folder] = (age, entry)
            while len(self._entries) > _LOADED:
                self._entries.pop(next(iter(self._entries)))
            return entry

    def folder(self, name: str) -> Path:
        """The checkpoint folder that a name or a path stands for.

        Raises:
            UserError: there is neither a folder of that path nor a checkpoint of that name.
        """
        if not name:
            # As a path it would be the folder that one is in.
            raise UserError("The checkpoint has no name.", "Name a folder or a checkpoint.")
        if Path(name).is_dir():
            return Path(name)
        found = self._folders()
        if name not in found:
            raise UserError(
                f"There is no checkpoint {name}.",
                f"Name a folder, or one of {', '.join(found) or 'the shipped ones'}.",
            )
        return found[name]

    def loaded(self, name: object) -> bool:
        """Whether `entry` answers at once."""
        folder = self._folders().get(str(name or self.names()[0]))
        return folder is None or folder in self._entries

    def digest_of(self, name: str) -> str:
        """The digest of the agent that a name, a folder or the digest itself stands for.

        Raises:
            UserError: there is no such folder or checkpoint, or it is damaged.
        """
        if name == EXPERT.name:
            return EXPERT.digest
        if re.fullmatch(r"[0-9a-f]{16}", name):
            return name
        from vlm4vla.model.checkpoint import checkpoint_hash  # takes seconds: torch

        return checkpoint_hash(self.folder(name))

    def name_of(self, digest: str) -> str:
        """The name of an episode's agent by its digest, or "" if it is not here any more."""
        if digest == EXPERT.digest:
            return EXPERT.name
        for name, folder in self._folders().items():
            if self._hash(folder) == digest:
                return name
        return ""

    def facts(self, name: str) -> Facts:
        """What a checkpoint says of itself; nothing is known of the expert."""
        folder = self._folders().get(name)
        return facts(folder) if folder else Facts()

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
        """Loads the agent to begin with in the background."""
        if len(self.names()) > 1:
            threading.Thread(target=self._warm, name="warm-agents", daemon=True).start()

    def _warm(self) -> None:
        try:
            self.entry("")
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


def label_of(agent: AgentId) -> str:
    """What people are shown for an episode's agent."""
    if agent == EXPERT:
        return "scripted expert (reads the simulator's state, not the picture)"
    return f"{agent.name or 'a policy'}, hash {agent.digest[:12]}"


def _age(folder: Path) -> int:
    try:
        return (folder / _MANIFEST).stat().st_mtime_ns
    except OSError:
        return -1


def _load(name: str, folder: Path) -> Entry:
    from vlm4vla.agents.policy import PolicyAgent, load_agent  # takes seconds: torch

    first = load_agent(folder)
    identity = AgentId("policy", first.identity.digest, name)

    def new_agent() -> Agent:
        return PolicyAgent(first.policy, identity)

    spec = first.policy.spec
    return Entry(name, identity, folder, spec.chunk, spec.execute, new_agent)
