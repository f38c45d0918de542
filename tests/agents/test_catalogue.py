import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vlm4vla.eval.cast import Cast, label_of

from tests import waiting
from vlm4vla.errors import UserError
from vlm4vla.eval import policy_driver
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    Policy.from_vlm("qwen3-vl:tiny").save_pretrained(folder / "b")
    return folder


def test_without_checkpoints_the_expert_acts(tmp_path: Path) -> None:
    cast = Cast(roots=[tmp_path / "nothing here"])
    assert cast.names() == ["expert"]
    actor = cast.actor("")
    assert (actor.identity, actor.kind, actor.chunk, actor.execute) == ("expert", "expert", 4, 4)
    assert [actor.new_driver(n).execute for n in (0, 2)] == [4, 2]
    assert "expert" in label_of("expert")


def test_a_checkpoint_that_appears_is_found_and_becomes_the_first(
    root: Path, tmp_path: Path
) -> None:
    cast = Cast(roots=[tmp_path])
    assert cast.names() == ["expert"]
    (tmp_path / "b").symlink_to(root / "b")
    assert cast.names() == ["b", "expert"]
    assert not cast.loaded("")
    actor = cast.actor("")
    assert actor.identity == checkpoint_hash(root / "b")
    assert cast.loaded("b")
    assert cast.actor("b") is actor
    assert cast.name_of(actor.identity) == "b"
    assert cast.name_of("0" * 16) == ""
    assert cast.name_of("expert") == "expert"
    assert actor.new_driver(2).execute == 2
    assert label_of(actor.identity) == actor.new_driver(0).label


@pytest.mark.parametrize("name", ["..", "../b", "/etc", "c", 7, ["b"], {"b": 1}, "b/"])
def test_a_name_reaches_nothing_but_what_is_listed(root: Path, name: Any) -> None:
    with pytest.raises(UserError, match="no such driver"):
        Cast(roots=[root]).actor(name)


def test_a_damaged_checkpoint_is_refused_and_the_expert_still_acts(
    root: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in (root / "b").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[:-1])
    cast = Cast(roots=[tmp_path])
    with pytest.raises(UserError, match="damaged"):
        cast.actor("")
    assert cast.name_of("0" * 16) == ""
    assert cast.evaluation("damaged") == {}
    assert cast.actor("expert").kind == "expert"


def test_only_the_newest_two_stay_in_memory_and_a_new_save_is_loaded_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        for file in (root / "b").iterdir():
            os.link(file, tmp_path / name / file.name)
    cast = Cast(roots=[tmp_path])
    first = cast.actor("a")
    for name in "bca":
        cast.actor(name)
    assert [cast.loaded(name) for name in "abc"] == [True, False, True]
    assert cast.actor("a") is not first
    again = cast.actor("a")
    os.utime(tmp_path / "a" / "policy.json", (1, 1))
    assert cast.actor("a") is not again


def test_the_evaluation_is_read_from_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    manifest = tmp_path / "a" / "policy.json"
    cast = Cast(roots=[tmp_path])
    for content, found in (
        ({"evaluation": {"tasks": {}}}, {"tasks": {}}),
        ({"evaluation": []}, {}),
        ({}, {}),
        ([], {}),
    ):
        manifest.write_text(json.dumps(content))
        assert cast.evaluation("a") == found
    assert cast.evaluation("expert") == {}


def test_loads_and_predictions_of_many_threads_come_one_at_a_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen:
        image = np.zeros((128, 128, 3), np.uint8)

    inside: list[int] = []
    most: list[int] = []

    def counted(inner: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            inside.append(1)
            most.append(len(inside))
            try:
                return inner(*args, **kwargs)
            finally:
                inside.pop()

        return call

    monkeypatch.setattr(Policy, "act", counted(Policy.act))
    monkeypatch.setattr(policy_driver, "load_driver", counted(policy_driver.load_driver))
    cast = Cast(roots=[root])
    answers: list[Any] = []

    def visit(sentence: str) -> None:
        driver = cast.actor("b").new_driver(0)
        driver.begin(None, sentence)  # type: ignore[arg-type]
        answers.append((sentence, driver.act(Seen())))  # type: ignore[arg-type]

    sentences = ["pick up the red cube", "push it"] * 4
    threads = [threading.Thread(target=visit, args=(sentence,)) for sentence in sentences]
    for thread in threads:
        thread.start()
    waiting.join(threads, 120)
    assert len(answers) == 8
    assert max(most) == 1
    for sentence in set(sentences):
        same = [chunk for said, chunk in answers if said == sentence]
        assert all(np.array_equal(chunk, same[0]) for chunk in same)
