"""Time of the table of episodes: put, a page of rows, every rate; against the store it replaced.

    python benchmarks/episodes.py [--episodes 100000] [--folder FOLDER]

Synthetic episodes of six checkpoints, five tasks and eight conditions, with arrays of the size that
the tabletop suite gives (10 to 100 steps, nine joints, four objects), each put on its own. Then a
second table is filled with 1,000 of them, and both take the same further episodes in turn. The
store of commit 147dd9b is taken from git's history and holds 1,000 folders, too.
"""

import argparse
import importlib.util
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Outcome,
    Prediction,
    Times,
    Trace,
)
from vlm4vla.episodes.filters import Filter, Membership
from vlm4vla.episodes.rates import facets, rates
from vlm4vla.episodes.table import FILE, EpisodeTable

OLD_COMMIT = "147dd9b"
SMALL = 1_000
PUTS = 400
OLD_PUTS = 10
LOOKS = 15

TASKS = ("reach", "pick", "push", "place", "stack")
LENGTHS = (10, 20, 30, 60, 100)
OUTCOMES = ("success", "wrong object", "dropped", "not reached", "out of time")
CONDITIONS = (
    Condition(),
    Condition(words="trained"),
    Condition(goal="alternate"),
    Condition(words="trained", goal="alternate"),
    Condition(replan_every=1),
    Condition(perturbations=(Perturbation("noise", {"sigma": 0.05}),)),
    Condition(perturbations=(Perturbation("start", {"offset": 0.02}),)),
    Condition(perturbations=(Perturbation("brightness", {"factor": 0.5}, 10, 30),)),
)
CHECKPOINTS = tuple(f"{number:016x}" for number in range(0xBED0, 0xBED0 + 6))
VERSIONS = {
    "mani_skill": "3.0.1",
    "numpy": "2.4.6",
    "sapien": "3.0.3",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "vlm4vla": "0.1.0",
}


def motion(length: int, rng: np.random.Generator) -> Episode:
    """An episode whose arrays are of the size that a simulated one has: one object moves."""
    time_axis = np.linspace(0, 1, length + 1)[:, None]
    joints = rng.normal(size=9) + np.sin(time_axis * rng.uniform(1, 4, 9)) * rng.normal(size=9)
    poses = np.repeat(rng.normal(size=(1, 4, 7)), length + 1, 0)
    poses[:, 0] += np.cumsum(rng.normal(size=(length + 1, 7)) * 1e-3, 0)
    actions = np.clip(rng.normal(size=(length + 4, 7)), -1, 1).astype(np.float32)
    return Episode(
        spec=EpisodeSpec("tabletop", "pick", 0, "", {}),
        agents=(AgentSpan(AgentId("policy", CHECKPOINTS[0], "tiny")),),
        outcome=Outcome("success", ""),
        steps=length,
        events=(Event(length // 2, "reached"), Event(length // 2 + 1, "grasped")),
        actions=actions[:length],
        predictions=tuple(Prediction(at, actions[at : at + 4]) for at in range(0, length, 4)),
        trace=Trace(joints.astype(np.float32), poses.astype(np.float32)),
        times=Times(),
        source="evaluation",
        versions=VERSIONS,
    )


def episode(number: int, motions: list[Episode]) -> Episode:
    """The episode of a number; the same number gives the same one."""
    rest, agent = divmod(number, len(CHECKPOINTS))
    rest, task = divmod(rest, len(TASKS))
    seed, condition = divmod(rest, len(CONDITIONS))
    like = motions[number % len(motions)]
    outcome = OUTCOMES[0 if number % 3 else number % 5]
    thing = f"orange cylinder number {seed}"
    return replace(
        like,
        spec=EpisodeSpec(
            "tabletop",
            TASKS[task],
            seed,
            f"please pick up the {thing} that stands on the table",
            {"task": TASKS[task], "object": thing, "target": None},
            CONDITIONS[condition],
        ),
        agents=(AgentSpan(AgentId("policy", CHECKPOINTS[agent], "tiny")),),
        outcome=Outcome(
            outcome,
            f"After {like.steps} steps the robot had not lifted the {thing}: it dropped it.",
            {"wrong_object": number % 7 == 0, "old_goal_done": False},
        ),
        times=Times(1.7e9 + number, 31.4, 4.2),
    )


def put(table: EpisodeTable, one: Episode) -> float:
    """Milliseconds of a put."""
    name = f"{one.agent.digest[:12]}-0-500"
    began = time.perf_counter()
    table.put(one, [Membership("evaluation", name)])
    return (time.perf_counter() - began) * 1e3


def looks(ask: Callable[[], Any]) -> str:
    """The median time of some look-ups, and the longest."""
    times = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1e3)
    return f"{statistics.median(times):.1f} ms (longest of {LOOKS}: {max(times):.1f})"


def old_store(folder: Path) -> ModuleType | None:
    """The module of the store at `OLD_COMMIT`, or None where git's history does not reach it."""
    found = subprocess.run(
        ["git", "show", f"{OLD_COMMIT}:vlm4vla/eval/store.py"],
        cwd=Path(__file__).parent,
        capture_output=True,
    )
    if found.returncode:
        return None
    file = folder / "old_store.py"
    file.write_bytes(found.stdout)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def measure_old(
    module: ModuleType, folder: Path, motions: list[Episode]
) -> tuple[list[float], float]:
    """Milliseconds of puts at 1,000 episodes, and of one rate of one checkpoint and task."""
    from vlm4vla.files import write_json

    def record(number: int) -> Any:
        one = episode(number, motions)
        return module.Record(
            driver=one.agent.digest,
            task=one.spec.task,
            seed=one.spec.seed,
            instruction=one.spec.instruction,
            condition=one.spec.condition.label,
            goal=f"{one.spec.task}: {one.spec.goal['object']}",
            outcome=one.outcome.kind,
            sentence=one.outcome.sentence,
            steps=one.steps,
            happenings=tuple((event.step, event.name) for event in one.events),
        )

    for number in range(SMALL):
        # Past `put`, which would take a minute for this.
        kept = record(number)
        write_json(folder / kept.run_id / "episode.json", asdict(kept))
        (folder / kept.run_id / "evaluated").touch()
    store = module.Store(folder)
    times = []
    for number in range(SMALL, SMALL + OLD_PUTS):
        began = time.perf_counter()
        store.put(record(number), None, evaluated=True)
        times.append((time.perf_counter() - began) * 1e3)
    began = time.perf_counter()
    store.rate(CHECKPOINTS[0], "pick", evaluated=True)
    return times, (time.perf_counter() - began) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to write (a local disk)")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    motions = [motion(length, rng) for length in LENGTHS]
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        measure(Path(name), args.episodes, motions)


def measure(folder: Path, count: int, motions: list[Episode]) -> None:
    large, small = EpisodeTable(folder / "large"), EpisodeTable(folder / "small")
    began = time.perf_counter()
    for number in range(count):
        put(large, episode(number, motions))
    print(f"{count:,} episodes put in {time.perf_counter() - began:.0f} s", end="; ")
    for number in range(SMALL):
        put(small, episode(number, motions))
    more = [episode(number, motions) for number in range(count, count + PUTS)]
    pairs = [(put(small, one), put(large, one)) for one in more]
    at_small, at_large = (statistics.median(times) for times in zip(*pairs, strict=True))
    size = (folder / "large" / FILE).stat().st_size
    print(f"{size / count / 1e3:.1f} kB an episode on disk")
    print(f"put: {at_small:.2f} ms at {SMALL:,}, {at_large:.2f} ms at {count:,}", end=", ")
    print(f"{at_large / at_small:.2f} times (goals: at most 1.5 times, under 5 ms)")

    chosen = Filter(
        agent=CHECKPOINTS[2],
        goal_task="pick",
        condition=CONDITIONS[3],
        outcome="success",
    )
    page = large.query(chosen)
    print(
        f"page of {len(page)} of {large.count(chosen)} rows filtered by checkpoint, task,", end=" "
    )
    print(f"condition and outcome: {looks(lambda: large.query(chosen))} (goal: under 50 ms)")
    print(f"newest page of all: {looks(lambda: large.query())}")
    print(f"the {len(rates(large))} rates of every checkpoint, task and condition:", end=" ")
    print(f"{looks(lambda: rates(large))} (goal: under 200 ms)")
    print(f"facets of everything: {looks(lambda: facets(large))}")
    seen = list(islice((row.id for row in page), 20))
    print(f"20 whole episodes: {looks(lambda: [large.get(key) for key in seen])}")

    module = old_store(folder)
    if module is None:
        print(f"the old store is not measured: this clone's history lacks commit {OLD_COMMIT}")
        return
    old_puts, old_rate = measure_old(module, folder / "old", motions)
    shutil.rmtree(folder / "old")
    old_put = statistics.median(old_puts)
    print(f"the store of {OLD_COMMIT} at {SMALL:,}: put {old_put:.1f} ms,", end=" ")
    print(f"{old_put / at_small:.0f} times the table's; one rate {old_rate:.1f} ms,", end=" ")
    print(f"the table's {len(rates(small))} rates {looks(lambda: rates(small))}")


if __name__ == "__main__":
    main()
