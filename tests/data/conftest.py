import sys
from pathlib import Path

import pytest

# Spawned collector processes import the fake environment by name, so it has to be on the path.
sys.path.insert(0, str(Path(__file__).parent))

import fake_environment

from vlm4vla.data import record
from vlm4vla.data.lerobot import finish, parts

TASKS = ("reach", "pick", "push", "place", "stack")


@pytest.fixture(scope="session")
def recordings():
    rig = fake_environment.rig()
    return [record.record(rig, TASKS[i % 5], 1_000_000 + i).recording for i in range(10)]


@pytest.fixture
def dataset(recordings, tmp_path):
    root = tmp_path / "dataset"
    for index, recording in enumerate(recordings):
        parts.write_part(root, index, recording)
    settings = {"tasks": TASKS, "first_seed": 1_000_000, "driver": "expert", "episodes": 2}
    finish.finish(root, len(recordings), settings)
    return root
