"""A bundle: everything that the Inspect page and `vlm4vla inspect` show of one episode."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import Episode
from vlm4vla.errors import UserError
from vlm4vla.eval.failures import label
from vlm4vla.inspection.diagnosis import Diagnosis, diagnose
from vlm4vla.inspection.explanation import (
    Explanation,
    explain_inferences,
    explained_agent,
    inferences_of,
    kept_explanations,
    policy_of,
)
from vlm4vla.inspection.kinds import KINDS, USUAL, MapKind
from vlm4vla.inspection.lanes import Lanes, lanes_of
from vlm4vla.inspection.pictures import Picture, draw_pictures, kept_pictures
from vlm4vla.inspection.shelf import Bundles, Shelf


@dataclass(frozen=True)
class Bundle:
    """A bundle, as far as it is made.

    Attributes:
        episode: which.
        lanes: of it.
        diagnosis: what they say.
        pictures: of its first steps; of all T + 1 moments in the end.
        inferences: how many there are to explain.
        kind: of the maps that are wanted.
        maps: the explanations of its inferences by the kind of their maps, as far as they are
            made, in order; no kind without one.
        missing: what cannot be made here and why, a sentence each.
    """

    episode: Episode
    lanes: Lanes
    diagnosis: Diagnosis
    pictures: tuple[Picture, ...] = ()
    inferences: int = 0
    kind: MapKind = USUAL
    maps: Mapping[MapKind, tuple[Explanation, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def drawn(self) -> bool:
        """Whether every moment has its pictures."""
        return len(self.pictures) == self.episode.steps + 1

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """Those whose maps are of the kind that is wanted."""
        return self.maps.get(self.kind, ())

    @property
    def explained(self) -> bool:
        """Whether every inference has its explanation of that kind."""
        return len(self.explanations) == self.inferences


def started(episode: Episode, bundles: Bundles, kind: MapKind = USUAL) -> Bundle:
    """A bundle of what needs no simulator and no network, and of what is kept already.

    Args:
        episode: which.
        bundles: where what is made is kept.
        kind: of the maps that are wanted; what is kept of other kinds is there, too.

    Raises:
        UserError: the episode is of another suite, or has no pose for every step.
    """
    lanes = lanes_of(episode)
    shelf = shelf_of(episode, bundles)
    kept = {one: tuple(kept_explanations(shelf, episode, one)) for one in KINDS}
    return Bundle(
        episode,
        lanes,
        diagnose(lanes, episode.outcome, label(episode)),
        tuple(kept_pictures(shelf, episode)),
        len(inferences_of(episode)),
        kind,
        {one: found for one, found in kept.items() if found},
    )


def completed(
    bundle: Bundle,
    bundles: Bundles,
    catalogue: AgentCatalogue,
    lend: Callable[[], AbstractContextManager[Environment]],
    first: int | None = None,
) -> Generator[Bundle, None, None]:
    """Makes what a bundle lacks, bit by bit; gives the bundle so far after each bit.

    Nothing is lost when the iterator is closed: the next time it goes on from there. What cannot
    be made here is named in `Bundle.missing`, and the rest is made.

    Args:
        bundle: as `started` gives it.
        bundles: where what is made is kept.
        catalogue: where the policy is looked for.
        lend: a simulator for as long as the block lasts; called only if one is needed.
        first: the step around which the maps begin; None for where the diagnosis points.
    """
    episode = bundle.episode
    shelf = shelf_of(episode, bundles)
    if not bundle.drawn:
        try:
            with lend() as environment:
                for pictures in draw_pictures(shelf, episode, environment):
                    bundle = replace(bundle, pictures=tuple(pictures))
                    yield bundle
        except UserError as error:
            yield (bundle := _lacking(bundle, f"Pictures cannot be drawn here: {error}"))
    if bundle.explained and bundle.inferences:
        return
    if not bundle.drawn:
        yield _lacking(bundle, "Maps and word bars need the pictures.")
        return
    try:
        policy, kind = policy_of(catalogue, episode), bundle.kind
        around = bundle.diagnosis.park if first is None else first
        for made in explain_inferences(shelf, episode, bundle.pictures, policy, kind, around):
            bundle = replace(bundle, maps={**bundle.maps, kind: tuple(made)})
            yield bundle
    except UserError as error:
        yield _lacking(bundle, str(error))


def shelf_of(episode: Episode, bundles: Bundles) -> Shelf:
    """Where the bundle of an episode is kept."""
    agent = explained_agent(episode)
    return bundles.of(episode, agent.digest if agent else "")


def _lacking(bundle: Bundle, why: str) -> Bundle:
    return replace(bundle, missing=(*bundle.missing, why))
