"""What stands on the Inspect page where no episode is asked for."""

import re
from pathlib import Path

import numpy as np
import pytest

from pages.inspect.choice import choice
from tests.inspection.examples import still_episode
from vlm4vla.core.episode import AgentId
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.filters import Membership

STILL = np.tile([0.0, 0, 0, 0, 0, 0, 1.0], (8, 1))
LISTED = Membership("evaluation", "near")


def test_a_failure_of_each_policy_in_each_task_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was measured last must not fill the page alone."""
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    archive = Archive.open()
    for number in range(5):
        agent = AgentId("policy", f"{number}" * 16, f"policy-{number}")
        for task in ("pick", "place"):
            for seed in range(5 - number):
                episode = still_episode(STILL, task=task, agent=agent, seed=seed)
                archive.table.put(episode, [LISTED])
    _, measured, _ = re.split(
        "Failures of measured checkpoints|Recordings", choice(archive, archive)
    )
    found = re.findall(r"<span>(policy-\d), (\w+) \d+, 8 steps</span>", measured)
    assert found == [(f"policy-{n}", t) for t in ("pick", "place") for n in range(4)]
