import json
import os
from pathlib import Path
from typing import Any

import pytest

from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.core.episode import AgentId, Event
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Filter, Membership
from vlm4vla.episodes.legacy import (
    LOST,
    condition_from_text,
    goal_from_text,
    import_evaluation,
    import_legacy,
    import_store,
)
from vlm4vla.episodes.rates import rates, standing
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError

AGENT = "bed03166840b0dc4"

# Written down from an earlier version: this record had this id, and links with it were passed on.
RECORD = {
    "driver": AGENT,
    "task": "reach",
    "seed": 0,
    "instruction": "touch the orange cylinder",
    "condition": "",
    "goal": "reach: orange cylinder",
    "outcome": "success",
    "sentence": "The robot touched the orange cylinder in 10 steps (0.5 s of the robot's time).",
    "steps": 10,
    "happenings": [[10, "reached"], [10, "grasped"], [10, "success"]],
}
RECORD_ID = "b6f7465f1d7db606"

TRIAL = {
    "checkpoint": AGENT,
    "task": "reach",
    "seed": 0,
    "scene": "objects: orange cylinder, red cube",
    "instruction": "touch the orange cylinder",
    "held_out": True,
    "alternate": False,
    "goal": "reach: orange cylinder",
    "success": True,
    "old_goal_done": False,
    "steps": 10,
    "events": [[10, "reached"], [10, "grasped"], [10, "success"]],
    "driver_ms": 31.5,
    "physics_ms": 4.25,
}


class Old:
    """A data folder as an earlier version wrote it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = EpisodeTable(folder / "table", log=folder / "episodes.jsonl")
        self.films = Films(self.table, folder / "films")

    def record(
        self, key: str, film: bytes = b"", marks: tuple[str, ...] = (), **changes: Any
    ) -> None:
        folder = self.folder / "episodes" / key
        folder.mkdir(parents=True)
        (folder / "episode.json").write_text(json.dumps({**RECORD, **changes}))
        os.utime(folder / "episode.json", (1000 + int(key, 16) % 97, 1000 + int(key, 16) % 97))
        if film:
            (folder / "view.mp4").write_bytes(film)
        for mark in marks:
            (folder / mark).touch()

    def evaluation(self, name: str, *trials: dict[str, Any], end: str = "") -> Path:
        folder = self.folder / "evaluations" / name
        folder.mkdir(parents=True)
        plan = {"checkpoint": AGENT, "first_seed": 0, "episodes": 3, "condition": {}}
        (folder / "evaluation.json").write_text(json.dumps(plan))
        lines = [json.dumps({**TRIAL, **trial}) + "\n" for trial in trials]
        (folder / "episodes.jsonl").write_text("".join(lines) + end)
        return folder

    def bring_in(self) -> int:
        return import_legacy(self.folder, self.table, self.films)


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path)


def test_a_link_that_was_passed_on_still_finds_its_episode_and_film(old: Old) -> None:
    old.record(RECORD_ID, b"film", ("pinned",))
    assert old.bring_in() == 1
    row = old.table.row(RECORD_ID)
    assert row.legacy_id == RECORD_ID and row.id != RECORD_ID
    assert row.agent == AgentId("policy", AGENT)
    assert (row.spec.suite, row.spec.task, row.spec.seed) == ("tabletop", "reach", 0)
    assert row.spec.goal == {"task": "reach", "object": "orange cylinder", "target": None}
    assert row.spec.condition == Condition(words=GIVEN)
    assert row.events == (Event(10, "reached"), Event(10, "grasped"), Event(10, "success"))
    assert row.outcome.sentence == RECORD["sentence"] and row.outcome.success
    assert row.kinds == ("live",) and row.source == "live" and row.reading["kind"] == "known"
    assert row.created == row.times.began == 1000 + int(RECORD_ID, 16) % 97
    film = old.films.path(row.id)
    assert film is not None and film.read_bytes() == b"film"
    assert old.films.pinned() == [row.id]
    assert old.table.get(RECORD_ID).actions.size == 0


def test_conditions_and_readings_are_told_from_their_old_words(old: Old) -> None:
    old.record("0" * 15 + "1", condition="unknown sentence, at most 40 steps, 2 actions a look")
    old.record("0" * 15 + "2", condition="at most 40 steps")
    old.record("0" * 15 + "3", condition="1 action a look", goal="push: red cube -> blue zone")
    assert old.bring_in() == 3
    first, second, third = (old.table.row("0" * 15 + end) for end in "123")
    assert first.spec.condition == Condition(words=GIVEN, max_steps=40, replan_every=2)
    assert first.reading["kind"] == "unknown"
    assert second.spec.condition == Condition(words=GIVEN, max_steps=40)
    assert third.spec.condition == Condition(words=GIVEN, replan_every=1)
    assert third.spec.goal == {"task": "push", "object": "red cube", "target": "blue zone"}
    assert third.goal_task == "push"
    assert len(rates(old.table)) == 3


def test_what_lost_its_condition_can_be_seen_and_never_counts(old: Old) -> None:
    for number in range(4):
        old.record(f"{number:016x}", b"film", ("evaluated",), seed=number, outcome="dropped")
    old.record(f"{9:016x}", seed=9, condition="blank picture")
    assert old.bring_in() == 5
    assert old.table.count(Filter(kind="imported")) == 5
    assert {row.spec.condition.words for row in old.table.query()} == {LOST}
    assert rates(old.table) == []
    assert standing(old.table, AGENT, "reach", {}).rate.n == 0


def test_rows_of_an_evaluation_keep_their_true_condition(old: Old) -> None:
    old.evaluation(
        f"{AGENT[:12]}-0-3",
        {},
        {"seed": 1, "alternate": True, "old_goal_done": True, "success": False, "events": []},
        {"seed": 2, "held_out": False, "success": False, "events": [[3, "wrong_object"]]},
        {"seed": 100_000, "goal": "place: red cube -> green bowl", "task": "place"},
        end='{"cut off',
    )
    assert old.bring_in() == 4
    found = {row.spec.seed: row for row in old.table.query()}
    assert found[0].spec.condition == Condition(words="known")
    assert found[0].outcome.success
    assert found[0].outcome.sentence.startswith("The robot touched the orange cylinder in 10 steps")
    assert (found[0].times.think_ms, found[0].times.physics_ms) == (31.5, 4.25)
    assert found[1].spec.condition == Condition(words="known", goal="alternate")
    assert found[1].outcome.kind == "not reached" and found[1].outcome.measures["old_goal_done"]
    assert found[2].spec.condition == Condition(words="trained")
    assert found[2].outcome.kind == "wrong object" and found[2].outcome.measures["wrong_object"]
    assert found[2].kinds == ("evaluation",) and found[100_000].kinds == ("selection",)
    assert old.table.memberships(found[0].id) == [Membership("evaluation", "bed03166840b-0-3")]
    assert [row.rate.n for row in rates(old.table)] == [1, 1, 1, 1]


def test_what_the_app_kept_of_an_evaluation_is_the_same_episode(old: Old) -> None:
    old.evaluation("one", {}, {"seed": 1})
    old.record(RECORD_ID, b"film", ("evaluated",))
    assert old.bring_in() == 2
    row = old.table.row(RECORD_ID)
    assert row.kinds == ("evaluation",) and row.spec.condition == Condition()
    assert old.films.path(row.id) is not None
    assert standing(old.table, AGENT, "reach", {}).rate.n == 2


def test_it_happens_once_and_changes_nothing_of_the_old(old: Old) -> None:
    old.record(RECORD_ID, b"film")
    old.evaluation("one", {})

    def content():
        folders = (old.folder / "episodes", old.folder / "evaluations")
        files = [file for one in folders for file in one.rglob("*") if file.is_file()]
        return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}

    before = content()
    assert old.bring_in() == 2
    assert content() == before
    old.table.drop(RECORD_ID)
    assert old.bring_in() == 0
    assert old.table.count() == 1


def test_a_folder_that_nobody_wrote_into_makes_no_table(old: Old) -> None:
    assert old.bring_in() == 0
    assert not (old.folder / "table").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"driver": "expert"}'])
def test_a_damaged_episode_is_left_out(old: Old, content: str) -> None:
    old.record("0" * 16)
    (old.folder / "episodes" / ("0" * 16) / "episode.json").write_text(content)
    old.record(RECORD_ID)
    old.record("f" * 16, goal="no goal")
    assert old.bring_in() == 1


def test_recordings_that_are_shipped_are_recordings(old: Old) -> None:
    old.record(RECORD_ID, b"film")
    folder = old.folder / "episodes"
    assert import_store(folder, old.table, old.films, kind="recording") == 1
    assert old.table.row(RECORD_ID).kinds == ("recording",)


def test_the_folder_of_an_evaluation_may_lie_anywhere(old: Old, tmp_path: Path) -> None:
    folder = old.evaluation("mine", {}, {"seed": 1})
    moved = folder.rename(tmp_path / "mine")
    assert import_evaluation(moved, old.table) == 2
    assert import_evaluation(moved, old.table) == 0
    with pytest.raises(UserError, match="holds no evaluation"):
        import_evaluation(tmp_path / "nowhere", old.table)


def test_the_scripted_expert_is_the_expert(old: Old) -> None:
    old.record(RECORD_ID, driver="expert")
    old.bring_in()
    assert old.table.row(RECORD_ID).agent == AgentId("expert", "expert")


def test_texts_that_are_no_goal_or_condition_are_refused() -> None:
    for text in ("", "reach", "reach red cube"):
        with pytest.raises(ValueError, match="no goal"):
            goal_from_text(text)
    for text in ("blank picture", "at most many steps", "at most 40 steps; x"):
        with pytest.raises(ValueError, match="no condition"):
            condition_from_text(text)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "[" * 100_000,
        json.dumps({**TRIAL, "seed": 2**80}),
        json.dumps({**TRIAL, "steps": float("inf")}),
        json.dumps({**TRIAL, "events": [[2**80, "success"]]}),
        json.dumps({**TRIAL, "instruction": "\ud800"}),
    ],
)
def test_a_damaged_row_is_left_out(old: Old, line: str) -> None:
    folder = old.evaluation("one", {}, end=line + "\n")
    assert import_evaluation(folder, old.table) == 1


@pytest.mark.parametrize("plan", ["", "{", "[]", "{}", "[" * 100_000])
def test_a_damaged_plan_is_named_and_keeps_nothing_else_out(old: Old, plan: str) -> None:
    folder = old.evaluation("one", {})
    old.evaluation("two", {"seed": 1})
    (folder / "evaluation.json").write_text(plan)
    with pytest.raises(UserError, match=f"{folder} holds no evaluation that can be read.*copy"):
        import_evaluation(folder, EpisodeTable.in_memory())
    assert old.bring_in() == 1
