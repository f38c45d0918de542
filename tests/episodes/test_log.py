import json
from pathlib import Path

import pytest

from tests.episodes.examples import EVALUATION, LIVE, content, example
from vlm4vla.episodes.log import Log, entry_from_json, entry_to_json
from vlm4vla.episodes.rows import Entry, Label
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError


def whats(log: Path) -> list[str]:
    return [json.loads(line)["what"] for line in log.read_text().splitlines()]


def test_an_entry_comes_back_whole() -> None:
    said = (Label("odd", "ann", "at the rim", 3.0),)
    entry = Entry(example(noisy=True, reading="known"), (EVALUATION, LIVE), "ab" * 8, 5.0, said)
    back = entry_from_json(json.loads(json.dumps(entry_to_json(entry))))
    assert content(back.episode) == content(entry.episode)
    assert back[1:] == entry[1:]


def test_what_no_run_would_bring_back_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "data" / "log.jsonl"
    table = EpisodeTable(tmp_path / "table", log=log)
    table.put(example(1), [EVALUATION])
    table.join(example(1).id, LIVE)
    assert not log.exists(), "an evaluation can be run again"
    table.put(example(2, source="live"), [LIVE])
    table.join(example(2).id, EVALUATION)
    table.label(example(2).id, "odd", "ann")
    table.drop(example(2).id)
    assert whats(log) == ["episode", "joined", "label", "dropped"]
    table.label(example(1).id, "odd", "ann")
    table.label(example(1).id, "odd indeed", "ann")
    # The log holds every episode that it holds a label of, whatever the table knew before.
    assert whats(log)[4:] == ["episode", "label"] * 2


def test_a_line_that_was_cut_off_is_skipped_and_nobody_removes_it(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.append("label", {"id": "one"})
    log.append("label", {"id": "two"})
    cut = log.path.read_bytes()[:-7]
    log.path.write_bytes(cut)
    assert [line["id"] for line in log.read()] == ["one"]
    assert log.path.read_bytes() == cut
    log.append("label", {"id": "three"})
    assert [line["id"] for line in log.read()] == ["one", "three"]
    assert log.path.read_bytes().startswith(cut + b"\n")


def test_a_last_line_without_its_end_that_is_whole_is_kept(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.append("label", {"id": "one"})
    log.path.write_bytes(log.path.read_bytes()[:-1])
    log.append("label", {"id": "two"})
    assert [line["id"] for line in log.read()] == ["one", "two"]


def test_an_absent_log_reads_as_empty_and_is_not_made(tmp_path: Path) -> None:
    assert list(Log(tmp_path / "none" / "log.jsonl").read()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_newer_log_is_told(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.path.write_text('{"format": 2, "what": "episode"}\n')
    with pytest.raises(UserError, match="newer version"):
        list(log.read())


def test_what_cannot_be_logged_is_not_put(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    table = EpisodeTable(tmp_path / "table", log=tmp_path / "file" / "log.jsonl")
    with pytest.raises(UserError, match=r"Could not write .*log\.jsonl"):
        table.put(example(1, source="live"), [LIVE])
    assert table.count() == 0
    table.put(example(2), [EVALUATION])
    with pytest.raises(UserError, match=r"Could not write .*log\.jsonl"):
        table.label(example(2).id, "odd", "ann")
    assert table.labels(example(2).id) == []
