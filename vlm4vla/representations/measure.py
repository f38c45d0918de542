"""One encoder through all probes, against an encoder of its architecture that learned nothing."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from vlm4vla.errors import UserError
from vlm4vla.files import replacing, write_json
from vlm4vla.model.checkpoint import MANIFEST, checkpoint_hash
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.representations.attentive import attentive_probes
from vlm4vla.representations.layers import Features, features
from vlm4vla.representations.pictures import TARGETS, Pictures, Split, split
from vlm4vla.representations.results import ProbeRow
from vlm4vla.representations.ridge import kernel, linear_probes
from vlm4vla.representations.scores import Score, score
from vlm4vla.representations.similarity import Gram, gram

Tell = Callable[[str], None]
Key = tuple[str, str, str]
"""Layer, target and probe."""

CKA_PICTURES: Final = 300
"""First pictures of scenes that layers are compared on."""


@dataclass(frozen=True)
class Encoder:
    """A checkpoint to be probed.

    Attributes:
        name: what it is called.
        folder: of a policy or of a VLM.
    """

    name: str
    folder: Path

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of its weights and words.

        Raises:
            UserError: the folder has no settings, no weights or no words.
        """
        if self.acts:
            return checkpoint_hash(self.folder)
        found = hashlib.sha256()
        # Large models come in several files, with one that says what is in which.
        weights = sorted(self.folder.glob("model*.safetensors*"))
        settings, words = self.folder / "config.json", self.folder / "tokenizer.json"
        lacking = [one.name for one in (settings, words) if not one.is_file()]
        if not any(one.suffix == ".safetensors" for one in weights):
            lacking.append("model.safetensors")
        if lacking:
            raise UserError(
                f"{self.folder} has no {' and no '.join(lacking)}.",
                "Name the folder of a VLM with its settings, its weights and its tokenizer.",
            )
        for file in (settings, *weights, words):
            found.update(file.read_bytes())
        return found.hexdigest()[:16]

    @property
    def acts(self) -> bool:
        """Whether it is a policy."""
        return (self.folder / MANIFEST).is_file()

    def load(self) -> Policy:
        """Its policy; for a VLM, with a query of zeros, as the paper's training begins with."""
        if self.acts:
            return Policy.from_pretrained(self.folder, "cpu", dtype=torch.float32)
        return Policy.from_vlm(self.folder, device="cpu", dtype=torch.float32).eval()

    def scratch(self) -> Policy:
        """A policy of the same architecture: fresh weights, a random query, and the same words."""
        vlm = load_vlm(self.folder, torch.float32, "cpu", "scratch")
        return Policy.from_vlm(vlm, query_init="embedding").eval()

    @property
    def architecture(self) -> str:
        """The same for encoders that differ in weights and words alone: they share a `scratch`."""
        config = _shape(json.loads((self.folder / "config.json").read_text("utf-8")))
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _shape(config: Any) -> Any:
    """A config without precision and words."""
    if not isinstance(config, dict):
        return config
    words = ("dtype", "vocab_size")
    return {
        name: _shape(value)
        for name, value in config.items()
        if name not in words and "token" not in name
    }


def rows_of(encoder: Encoder, pictures: Pictures, work: Path, command: str, tell: Tell) -> None:
    """Probes an encoder and leaves the result in a folder; what is there is not done again.

    Args:
        encoder: which.
        pictures: what it is shown.
        work: `DIGEST.json` holds its rows then, and `DIGEST.npz` what CKA needs.
        command: stands in the rows.
        tell: takes a line about how far it is.
    """
    digest = encoder.digest
    if (work / f"{digest}.json").is_file():
        tell("was probed before")
        return
    random = _random(encoder, pictures, work, tell)
    policy = encoder.load()
    seen = features(policy, pictures.images, pictures.instructions, tell)
    family = policy.vlm.family.name
    policy.detach()
    parts = split(pictures.scenes)
    found = probe(seen, pictures, parts, tell)
    baselines = {target.name: mean_score(pictures, parts, target.name) for target in TARGETS}
    layers = list(seen)
    rows = []
    for (layer, target, how), told in found.items():
        place = [one.name for one in layers].index(layer)
        rows.append(
            ProbeRow(
                encoder.name,
                digest,
                family,
                layer,
                place,
                place == len(layers) - 1,
                target,
                how,
                next(one.metric for one in TARGETS if one.name == target),
                *told,
                baselines[target].value,
                random[layer, target, how],
                command,
            )
        )
    some = np.flatnonzero(pictures.first)[:CKA_PICTURES]
    with replacing(work / f"{digest}.npz") as temporary:
        products = {layer.name: gram(values[some]) for layer, values in seen.items()}
        np.savez(temporary, **products)  # type: ignore[arg-type]
    # The rows last: where they are, the rest is, too.
    write_json(work / f"{digest}.json", [row._asdict() for row in rows])


def kernels(digest: str, work: Path) -> dict[str, Gram]:
    """What `rows_of` left for CKA, by layer."""
    with np.load(work / f"{digest}.npz", allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def probe(
    seen: Features, pictures: Pictures, parts: Split, tell: Tell, *, attentive: bool = True
) -> dict[Key, Score]:
    """Scores of all probes by layer, target and probe.

    Linear probes read every layer. Attentive ones, which cost more, read the projector and the
    last layer of the language model at the image tokens, if they are asked for.
    """
    found: dict[Key, Score] = {}
    last = {layer.part: layer for layer in seen}
    choices = [target.name for target in TARGETS if target.kind == "choice"]
    looked_at = [last[part] for part in ("projector", "picture")]
    for layer, values in seen.items():
        products = kernel(values, parts.fit)
        for name, told in linear_probes(products, pictures.truth, parts, choices).items():
            found[layer.name, name, "linear"] = _score(told, pictures, parts, name)
        if attentive and layer in looked_at:
            for name, told in attentive_probes(values, pictures.truth, parts).items():
                found[layer.name, name, "attentive"] = _score(told, pictures, parts, name)
        tell(f"{layer.name} probed")
    return found


def _random(encoder: Encoder, pictures: Pictures, work: Path, tell: Tell) -> Mapping[Key, float]:
    """What the probes of fresh weights reach, by layer, target and probe."""
    file = work / f"random-{encoder.architecture}.json"
    if not file.is_file():
        policy = encoder.scratch()
        say: Tell = lambda line: tell(f"fresh weights: {line}")  # noqa: E731
        seen = features(policy, pictures.images, pictures.instructions, say)
        policy.detach()
        found = probe(seen, pictures, split(pictures.scenes), say)
        write_json(file, [[*key, told.value] for key, told in found.items()])
    return {(a, b, c): value for a, b, c, value in json.loads(file.read_text("utf-8"))}


def _score(predicted: NDArray[Any], pictures: Pictures, parts: Split, name: str) -> Score:
    kind = next(target.kind for target in TARGETS if target.name == name)
    return score(predicted, pictures.truth[name], pictures.scenes, parts, kind)


def mean_score(pictures: Pictures, parts: Split, name: str) -> Score:
    """Of whoever always answers the mean of the pictures that probes are fitted to."""
    truth = pictures.truth[name]
    mean = np.broadcast_to(np.nanmean(truth[parts.fit], axis=0), truth.shape)
    return _score(mean, pictures, parts, name)


def layers_of(rows: list[ProbeRow]) -> list[str]:
    """Layers of one checkpoint's rows, in the order in which they are computed."""
    return [name for _, name in sorted({(row.place, row.layer) for row in rows})]
