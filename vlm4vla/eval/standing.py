"""How often a driver does a task, and which episodes say so."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vlm4vla.eval.store import Store
from vlm4vla.statistics import Rate, wilson


class Standing(NamedTuple):
    """A success rate and where it is from, as the end of a sentence."""

    rate: Rate
    source: str


def standing(store: Store, driver: str, task: str, published: Mapping[str, Any]) -> Standing:
    """The rate from the best episodes there are.

    Args:
        store: the episodes that are kept here.
        driver: "expert", or the hash of a checkpoint.
        task: what is to be done.
        published: the evaluation that travels with the checkpoint, as `vlm4vla eval --json` prints
            it; empty if there is none. It comes first: its scenes were drawn, not picked.
    """
    if row := published.get("tasks", {}).get(task):
        return Standing(
            wilson(row["successes"], row["n"]), "in the evaluation that comes with the checkpoint"
        )
    rate = store.rate(driver, task, evaluated=True)
    if rate.n:
        return Standing(rate, "in evaluations on this machine")
    rate = store.rate(driver, task, evaluated=False)
    return Standing(rate, "among episodes kept here, whose scenes visitors picked")
