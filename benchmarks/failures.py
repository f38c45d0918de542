"""Time of the failures page's questions: labels, facets, a page, the map, over many episodes.

    python benchmarks/failures.py [--episodes 100000] [--folder FOLDER]

The episodes are the shipped results, given to as many agents as it takes. A folder that holds a
table already is measured as it is.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from vlm4vla.core.episode import AgentId, AgentSpan
from vlm4vla.episodes.labels import density, dots
from vlm4vla.episodes.parquet import import_shipped
from vlm4vla.episodes.rows import Entry
from vlm4vla.episodes.start import SHIPPED
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.labelling import Query, label_missing, summarise, wall

LOOKS = 9
BATCH = 500


def entries(shipped: list[Entry]) -> Iterator[Entry]:
    """The shipped episodes, then the same of another agent, and so on."""
    for number in count():
        for one in shipped:
            acted = one.episode.agents[0].agent
            # Of each agent its own copy: two that did the same would be one episode.
            name = f"copy {number} of {acted.name}"
            agents = (AgentSpan(AgentId("policy", f"{number:07x}{acted.digest[:8]}", name)),)
            episode = replace(one.episode, agents=agents)
            yield one._replace(episode=episode, created=one.created + number)


def fill(table: EpisodeTable, number: int) -> None:
    """Puts so many episodes into a table."""
    source = EpisodeTable.in_memory()
    import_shipped(source, SHIPPED)
    left = islice(entries(list(source.entries())), number)
    while some := list(islice(left, BATCH)):
        table.put_all(some)


def told(name: str, ask: Callable[[], Any]) -> None:
    """Prints the median time of some look-ups, and the longest."""
    times = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1e3)
    print(f"{name}: {statistics.median(times):.0f} ms (longest of {LOOKS}: {max(times):.0f})")


def after_a_change(table: EpisodeTable) -> None:
    """The first question after one: everything is counted anew."""
    with table.database.writing() as db:
        db.execute("UPDATE label_changes SET number = number + 1")
    summarise(table, Query())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to write (a local disk)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(EpisodeTable(args.folder or Path(name)), args.episodes)


def measure(table: EpisodeTable, number: int) -> None:
    if not table.count():
        fill(table, number)
    began = time.perf_counter()
    done = label_missing(table)
    if done:
        each = (time.perf_counter() - began) * 1e3 / done
        print(f"{done:,} episodes labelled, {each:.1f} ms each")
    told("facets after a change of the table", partial(after_a_change, table))
    for name, query in (
        ("newest evaluation", Query()),
        ("every agent and condition", Query(agent=("all",), condition=("all",))),
        ("everything recorded", Query(kind="all", agent=("all",), condition=("all",))),
    ):
        found = summarise(table, query)
        print(f"{name}: {found.sentence}")
        told("  facets, bars and sentence", partial(summarise, table, query))
        told("  the wall's page", partial(wall, table, found))
        told("  failures of the map", partial(dots, table, found.wanted, 2_000))
        told("  density of the map", partial(density, table, found.everything, 0.01))


if __name__ == "__main__":
    main()
