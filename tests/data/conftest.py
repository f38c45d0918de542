import shutil
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


@pytest.fixture(scope="session")
def whole(recordings, tmp_path_factory):
    """A dataset that tests must not change."""
    root = tmp_path_factory.mktemp("whole") / "dataset"
    for index, recording in enumerate(recordings):
        parts.write_part(root, index, recording)
    settings = {"tasks": TASKS, "first_seed": 1_000_000, "driver": "expert", "episodes": 2}
    finish.finish(root, len(recordings), settings)
    return root


@pytest.fixture
def dataset(whole, tmp_path):
    """A dataset that a test may damage."""
    return shutil.copytree(whole, tmp_path / "dataset")
