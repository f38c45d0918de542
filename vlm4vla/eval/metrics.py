"""Metrics of an evaluation: success rates with their intervals, a row a task."""

from collections.abc import Mapping, Sequence
from typing import Any

from vlm4vla.core.episode import Episode
from vlm4vla.statistics import wilson


def summarise(episodes: Sequence[Episode]) -> dict[str, Any]:
    """The metrics of some episodes of one task.

    Returns:
        {"n", "successes", "rate", "ci95": [low, high] (Wilson), "wrong_object", "old_goal_done"};
        the last two are shares of the n episodes.
    """
    rate = wilson(sum(one.outcome.success for one in episodes), len(episodes))
    return {
        "n": rate.n,
        "successes": rate.successes,
        "rate": rate.rate,
        "ci95": [round(rate.low, 4), round(rate.high, 4)],
        "wrong_object": _share(episodes, "wrong_object"),
        "old_goal_done": _share(episodes, "old_goal_done"),
    }


def _share(episodes: Sequence[Episode], measure: str) -> float:
    return sum(bool(one.outcome.measures.get(measure)) for one in episodes) / max(len(episodes), 1)


def describe(task: str, row: dict[str, Any]) -> str:
    """One line about a task's row of `summarise`."""
    return (
        f"{task}: {row['successes']}/{row['n']} ({row['rate']:.1%}, 95 % interval "
        f"{row['ci95'][0]:.1%} to {row['ci95'][1]:.1%}), wrong object {row['wrong_object']:.1%}, "
        f"old goal done {row['old_goal_done']:.1%}"
    )


def table(found: Mapping[str, dict[str, Any]]) -> list[str]:
    """Lines of a table over tasks, from rows of `summarise`."""
    lines = [
        f"{'task':8}{'n':>5}{'success':>9}{'95 % interval':>20}{'wrong object':>14}{'old goal':>10}"
    ]
    for task, row in found.items():
        low, high = (f"{end:.1%}" for end in row["ci95"])
        lines.append(
            f"{task:8}{row['n']:5}{row['rate']:9.1%}{low + ' to ' + high:>20}"
            f"{row['wrong_object']:14.1%}{row['old_goal_done']:10.1%}"
        )
    return lines
