"""Parts and the dataset made of them."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from lerobot_doctor.dataset_loader import load_dataset
from lerobot_doctor.runner import Severity, run_checks

from vlm4vla.data.lerobot import finish, parts
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.errors import UserError


def files(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_what_was_recorded_is_what_is_read(dataset, recordings):
    opened = open_dataset(dataset)
    assert len(opened.episodes) == len(recordings)
    for index, recording in enumerate(recordings):
        assert opened.recording(index).fingerprint() == recording.fingerprint()
        assert opened.episodes[index].info == recording.info
        assert parts.preview_path(dataset, index).stat().st_size > 500
    assert not (dataset / "parts").exists()


def test_lerobot_doctor_finds_no_failure(dataset):
    report = run_checks(load_dataset(str(dataset)))
    failures = [
        message.message
        for result in report.results
        for message in result.messages
        if message.severity is Severity.FAIL
    ]
    assert failures == []
    assert report.format_version == "v3"
    assert "Metadata & Format Compliance" in {
        r.name for r in report.results if r.severity is Severity.PASS
    }


def test_columns_rows_and_metadata_follow_the_layout(dataset, recordings):
    info = json.loads((dataset / "meta/info.json").read_text())
    file = pq.ParquetFile(dataset / "data/chunk-000/file-000.parquet")
    assert file.schema_arrow.names == list(info["features"])
    described = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert described["observation.images.policy"] == {"_type": "Image"}
    assert described["action"]["length"] == 7
    assert file.num_row_groups == len(recordings)
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"
    table = file.read()
    assert table["index"].to_pylist() == list(range(info["total_frames"]))
    lengths = [len(recording) for recording in recordings]
    assert table["episode_index"].to_pylist() == np.repeat(range(10), lengths).tolist()
    assert np.allclose(table["timestamp"], np.array(table["frame_index"]) / 20)
    tasks = pd.read_parquet(dataset / "meta/tasks.parquet")
    sentences = [recording.info.instruction for recording in recordings]
    assert tasks.index[table["task_index"].to_pylist()].tolist() == (
        np.repeat(sentences, lengths).tolist()
    )
    episodes = pd.read_parquet(dataset / "meta/episodes/chunk-000/file-000.parquet")
    assert episodes["dataset_to_index"].tolist() == np.cumsum(lengths).tolist()
    assert np.shape(np.stack(episodes["stats/observation.images.policy/mean"][0])) == (3, 1)
    stats = json.loads((dataset / "meta/stats.json").read_text())
    actions = np.concatenate([recording.action for recording in recordings])
    assert np.allclose(stats["action"]["mean"], actions.mean(axis=0), atol=1e-6)
    assert np.allclose(stats["action"]["q99"], np.quantile(actions, 0.99, axis=0), atol=1e-6)


def test_finishing_gives_the_same_bytes_in_one_file_or_again(recordings, tmp_path):
    for name in ("one", "two"):
        for index in reversed(range(6)) if name == "two" else range(6):
            parts.write_part(tmp_path / name, index, recordings[index])
        finish.finish(tmp_path / name, 6, {})
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_large_datasets_go_into_several_files(recordings, tmp_path, monkeypatch):
    for index, recording in enumerate(recordings):
        parts.write_part(tmp_path, index, recording)
    monkeypatch.setattr(finish, "FILE_MEGABYTES", 0.03)
    finish.finish(tmp_path, len(recordings), {})
    opened = open_dataset(tmp_path)
    assert len({row.file for row in opened.episodes}) > 2
    for index, recording in enumerate(recordings):
        assert opened.recording(index).fingerprint() == recording.fingerprint()


def test_an_interrupted_finish_can_be_done_again(recordings, tmp_path, monkeypatch):
    for index in range(4):
        parts.write_part(tmp_path / "a", index, recordings[index])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    finish.finish(tmp_path / "a", 4, {})

    def full(path, value):
        raise UserError(f"Could not write {path}: No space left on device.")

    with monkeypatch.context() as patched:
        patched.setattr(finish, "write_json", full)
        with pytest.raises(UserError, match=r"stats\.json"):
            finish.finish(tmp_path / "b", 4, {})
    assert not finish.is_finished(tmp_path / "b")
    assert parts.indices(tmp_path / "b") == {0, 1, 2, 3}
    finish.finish(tmp_path / "b", 4, {})
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_damaged_part_is_named_and_nothing_is_removed(recordings, tmp_path):
    for index in range(3):
        parts.write_part(tmp_path, index, recordings[index])
    path = parts.part_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        finish.finish(tmp_path, 3, {})
    path.write_bytes(content[:-20])
    with pytest.raises(UserError, match=str(path)):
        finish.finish(tmp_path, 3, {})
    assert parts.indices(tmp_path) == {0, 1, 2}
