"""The reader against datasets written here with pyarrow from the published layout."""

import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.errors import UserError

CAMERA = "observation.images.top"
LENGTHS = (3, 2, 4)
FILES = (0, 0, 1)
SENTENCES = ("open the drawer", "close the drawer", "open the drawer")


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def hand_written(root, index_name="task", groups_per_file=None, state_type=None):
    """Three episodes in two data files; frame i has state (i, -i) and a picture of level 10 i."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    features = {
        CAMERA: {"dtype": "image", "shape": [4, 6, 3], "names": ["height", "width", "channels"]},
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["a", "b"]},
        "action": {"dtype": "float32", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        "frame_index": {"dtype": "int64", "shape": [1], "names": None},
        "episode_index": {"dtype": "int64", "shape": [1], "names": None},
        "index": {"dtype": "int64", "shape": [1], "names": None},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
    }
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so100",
        "total_episodes": 3,
        "total_frames": 9,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/stats.json").write_text("{}")
    # The task index is a pandas index; the rows are deliberately not in its order.
    tasks = pd.DataFrame({"task_index": [1, 0]}, index=["close the drawer", "open the drawer"])
    tasks.index.name = index_name
    tasks.to_parquet(root / "meta/tasks.parquet")
    begins = np.concatenate([[0], np.cumsum(LENGTHS)])
    rows = [
        {
            "episode_index": i,
            "tasks": [SENTENCES[i]],
            "length": LENGTHS[i],
            "data/chunk_index": 0,
            "data/file_index": FILES[i],
            "dataset_from_index": int(begins[i]),
            "dataset_to_index": int(begins[i + 1]),
            "stats/action/min": [0.0],
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for i in range(3)
    ]
    episodes = pa.Table.from_pylist(rows)
    pq.write_table(episodes, root / "meta/episodes/chunk-000/file-000.parquet")
    for file in (0, 1):
        frames = []
        for i in range(3):
            if FILES[i] != file:
                continue
            for t in range(LENGTHS[i]):
                index = int(begins[i]) + t
                frames.append(
                    {
                        CAMERA: {"bytes": png(10 * index), "path": None},
                        "observation.state": [float(index), -float(index)],
                        "action": float(index) / 2,
                        "timestamp": t / 10,
                        "frame_index": t,
                        "episode_index": i,
                        "index": index,
                        "task_index": int(SENTENCES[i] == "close the drawer"),
                    }
                )
        vector = state_type or pa.list_(pa.float32(), 2)
        integer = [(n, pa.int64()) for n in list(features)[4:]]
        schema = pa.schema(
            [
                (CAMERA, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                ("observation.state", vector),
                ("action", pa.float32()),
                ("timestamp", pa.float32()),
                *integer,
            ]
        )
        pq.write_table(
            pa.Table.from_pylist(frames, schema),
            root / f"data/chunk-000/file-{file:03d}.parquet",
            row_group_size=groups_per_file or 1000,
            write_page_checksum=True,
        )
    return root


@pytest.mark.parametrize("index_name", ["task", None, "__index_level_0__"])
@pytest.mark.parametrize("group", [None, 1, 2])
@pytest.mark.parametrize("vector", [None, pa.list_(pa.float32())])
def test_reads_the_published_layout(tmp_path, index_name, group, vector):
    dataset = open_dataset(hand_written(tmp_path, index_name, group, vector))
    assert (dataset.fps, len(dataset), len(dataset.episodes)) == (10, 9, 3)
    assert dataset.tasks == ("open the drawer", "close the drawer")
    assert [row.instructions[0] for row in dataset.episodes] == list(SENTENCES)
    assert dataset.fingerprint is None
    for episode, expected in enumerate(([0, 1, 2], [3, 4], [5, 6, 7, 8])):
        state = dataset.values(episode, "observation.state")
        assert state.tolist() == [[i, -i] for i in expected]
        assert dataset.values(episode, "index").tolist() == expected
        assert dataset.values(episode, "action").tolist() == [i / 2 for i in expected]
        images = dataset.images(episode, CAMERA)
        assert images.shape == (len(expected), 4, 6, 3)
        assert images[:, 3, 5, 2].tolist() == [10 * i for i in expected]
    with pytest.raises(UserError, match="no labels"):
        dataset.recording(0)
    with pytest.raises(UserError, match="no column"):
        dataset.values(0, "nothing")


def test_video_cameras_and_older_layouts_are_refused(tmp_path):
    root = hand_written(tmp_path)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][CAMERA]["dtype"] = "video"
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"stored as video"):
        open_dataset(root).images(0, CAMERA)
    info["codebase_version"] = "v2.1"
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"layout v2\.1"):
        open_dataset(root)


FILES_OF_A_DATASET = (
    "meta/info.json",
    "meta/tasks.parquet",
    "meta/episodes/chunk-000/file-000.parquet",
    "data/chunk-000/file-001.parquet",
)


@pytest.mark.parametrize("name", FILES_OF_A_DATASET)
@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    path = hand_written(tmp_path) / name
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[: len(content) // 2], "emptied": b"", "overwritten": b"x" * len(content)}[
            damage
        ]
    )
    with pytest.raises(UserError, match=str(path)):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", FILES_OF_A_DATASET[1:])
def test_a_missing_file_is_named(tmp_path, name):
    path = hand_written(tmp_path) / name
    path.unlink()
    # A folder without episode files is named itself.
    with pytest.raises(UserError, match=str(path.parent.parent if "episodes" in name else path)):
        open_dataset(tmp_path)


def test_one_changed_byte_in_the_data_is_noticed(tmp_path):
    path = hand_written(tmp_path) / "data/chunk-000/file-000.parquet"
    content = bytearray(path.read_bytes())
    where = content.index(b"IDAT") + 6
    content[where] ^= 1
    path.write_bytes(content)
    dataset = open_dataset(tmp_path)
    with pytest.raises(UserError, match=str(path)):
        dataset.images(0, CAMERA)


def test_a_data_file_of_the_wrong_length_is_refused(tmp_path):
    root = hand_written(tmp_path)
    path = root / "data/chunk-000/file-001.parquet"
    pq.write_table(pq.read_table(path).slice(0, 3), path)
    with pytest.raises(UserError, match="3 frames instead of 4"):
        open_dataset(root)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a finished dataset"):
        open_dataset(tmp_path)
