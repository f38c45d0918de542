from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vlm4vla.eval.filing import file_trials, record_of
from vlm4vla.eval.store import Store
from vlm4vla.suites.tabletop.scene import sample_episode


def trial(seed: int, events: tuple[tuple[int, str], ...]) -> Any:
    episode = sample_episode("pick", seed, alternate=True)
    return SimpleNamespace(
        task="pick",
        seed=seed,
        instruction=episode.instruction,
        goal=str(episode.goal),
        steps=events[-1][0],
        events=events,
    )


def test_a_trial_becomes_the_record_that_the_app_would_make(tmp_path: Path) -> None:
    asked = sample_episode("pick", 3, alternate=True)
    record = record_of(trial(3, ((9, "reached"), (60, "timeout"))), "abc")
    assert (record.driver, record.task, record.seed, record.condition) == ("abc", "pick", 3, "")
    assert (record.goal, record.goal_task) == (str(asked.goal), "pick")
    assert record.outcome == "not grasped"
    assert asked.goal.object in record.sentence
    won = record_of(trial(3, ((9, "reached"), (14, "success"))), "abc")
    assert (won.outcome, won.steps, won.run_id) == ("success", 14, record.run_id)


def test_filing_again_adds_nothing_and_keeps_a_video_that_was_made_since(tmp_path: Path) -> None:
    store = Store(tmp_path)
    trials = [trial(seed, ((14, "success"),)) for seed in (1, 2)]
    file_trials(store, "abc", trials)
    ids = store.ids()
    assert store.evaluated() == ids
    assert store.video(ids[0]) is None
    store.put(replace(store.get(ids[0]), sentence="Again."), b"video")
    file_trials(store, "abc", trials)
    assert sorted(store.ids()) == sorted(store.evaluated()) == sorted(ids)
    video = store.video(ids[0])
    assert video is not None
    assert video.read_bytes() == b"video"
    assert store.rate("abc", "pick", evaluated=True).n == 2
