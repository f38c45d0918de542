"""Skipped parts from rows whose counts are known."""

from tests.ablation.test_matrix import AGENT, put
from tests.episodes.examples import EVALUATION
from vlm4vla.ablation.matrix import condition_of
from vlm4vla.ablation.parts import PARTS, part_of, skipped
from vlm4vla.ablation.registry import perturbation
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.table import EpisodeTable


def test_parts_stand_in_the_networks_order_and_count_their_own_scenes() -> None:
    table = EpisodeTable.in_memory()
    put(table, Condition(), range(20), 15, membership=EVALUATION)
    head = {"part": "vision", "layer": 3, "head": 1}
    measured = {
        "language layer 10": perturbation("skip-language-layer", {"layer": 10}),
        "language layer 2": perturbation("skip-language-layer", {"layer": 2}),
        "vision layer 0": perturbation("skip-vision-layer"),
        "language layer 0 head 0": perturbation("skip-head"),
        "vision layer 3 head 1": perturbation("skip-head", head),
        "image tokens zero": perturbation("skip-image-tokens"),
    }
    for place, change in enumerate(measured.values()):
        put(table, condition_of(change), range(10), place)
    # Neither belongs to the parts.
    put(table, condition_of(perturbation("picture-blur")), range(10), 5)
    put(table, condition_of(perturbation("skip-vision-layer", first_step=3)), range(10), 5)
    assert skipped(table, AGENT, ["push"]) == []
    intact, *found = skipped(table, AGENT, ["pick"])
    # Of the 20 intact scenes the parts have the first 10.
    assert (intact.rate.successes, intact.rate.n) == (10, 10)
    names = [part_of(one.condition.perturbations[0]) for one in found]
    assert names == [
        "image tokens zero",
        "vision layer 0",
        "language layer 2",
        "language layer 10",
        "vision layer 3 head 1",
        "language layer 0 head 0",
    ]
    counts = {name: one.rate.successes for name, one in zip(names, found, strict=True)}
    assert counts == {name: place for place, name in enumerate(measured)}


def test_the_parts_are_what_acts_inside_a_policy() -> None:
    assert PARTS == ("skip-image-tokens", "skip-vision-layer", "skip-language-layer", "skip-head")
