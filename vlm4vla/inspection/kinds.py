"""The kinds of maps that Inspect offers: what is explained, and by which method; needs no torch."""

from typing import Final, NamedTuple

from vlm4vla.attribution.names import METHODS as MEANINGS
from vlm4vla.attribution.names import TARGETS as EXPLAINED
from vlm4vla.attribution.worth import worth

TARGETS: Final = {"displacement": "mm", "gripper": "logit", "agreement": "mm"}
"""What can be explained, of `vlm4vla.attribution.names.TARGETS`, and the unit of its maps."""

METHODS: Final = {
    "occlusion": "occlusion",
    "gradient": "gradient x input",
    "attention": "query attention",
}
"""Methods, of `vlm4vla.attribution.names.METHODS`, and what they are called for people."""

ONE_LAYER: Final = "Worth not measured for one layer alone: only for the mean of all."
"""What stands in the place of the worth under the attention of one layer."""


class MapKind(NamedTuple):
    """A kind of map.

    Attributes:
        target: one of `TARGETS`.
        method: one of `METHODS`.
    """

    target: str = "displacement"
    method: str = "occlusion"

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.target}-{self.method}"

    @property
    def unit(self) -> str:
        """Of its scores; attention has none, it is a share."""
        return "" if self.method == "attention" else TARGETS[self.target]

    @property
    def meaning(self) -> str:
        """What its scores say, for people."""
        if self.method == "attention":
            return f"Not of an action: {MEANINGS['attention']}"
        return f"Of {EXPLAINED[self.target]}: {MEANINGS[self.method]}"

    def worth(self, digest: str) -> str:
        """What is measured of such maps of a checkpoint, as a sentence."""
        return worth(digest, self.method, self.target)

    def command(self, episode: str, step: int) -> str:
        """The command that makes the map of an inference of a stored episode.

        Args:
            episode: its id.
            step: the control step that the inference was made at.
        """
        return (
            f"vlm4vla attribute --run {episode} --step {step} --method {self.method} "
            f"--target {self.target} --out maps"
        )


USUAL: Final = MapKind()

KINDS: Final = tuple(MapKind(target, method) for target in TARGETS for method in METHODS)


def kind_of(target: str, method: str) -> MapKind:
    """The kind that an address asks for; as usual in whatever makes no sense there."""
    return MapKind(
        target if target in TARGETS else USUAL.target,
        method if method in METHODS else USUAL.method,
    )
