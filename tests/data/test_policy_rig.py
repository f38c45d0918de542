"""A real policy, of the smallest size, in the collector's place for the expert."""

import fake_environment
import numpy as np
import pytest

from vlm4vla.action import tiny
from vlm4vla.commands import collect as command
from vlm4vla.data.record import Rig, record
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.model.tokenizer import CORPUS
from vlm4vla.model.vlm import make_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "checkpoint"
    sizes = {"vision_layers": 3, "vision_width": 64, "language_layers": 2, "language_width": 64}
    vlm = make_tiny(CORPUS, "qwen3-vl", heads=4, **sizes)
    Policy(vlm, tiny(execute=2)).save_pretrained(folder)
    return folder


def test_the_policy_acts_and_the_expert_labels(checkpoint, monkeypatch):
    monkeypatch.setattr(
        command,
        "agent_rig",
        lambda agent, name: Rig(
            fake_environment.FakeEnvironment(), fake_environment.fake_plan, agent, name
        ),
    )
    rig = command.policy_rig(checkpoint)
    assert rig.name == command.policy_name(checkpoint)
    recording = record(rig, "pick", 1_000_000).recording
    policy = Policy.from_pretrained(checkpoint)
    instruction = recording.info.instruction
    for look in range(0, 6, 2):  # it executes two actions a look
        said = policy.act(recording.images[look : look + 1], [instruction])[0, :2]
        assert np.allclose(recording.action[look : look + 2], np.clip(said, -1, 1), atol=1e-5)
    assert recording.info.driver.startswith("policy ") and not recording.noisy.any()
    assert recording.chunks.shape[1] == len(recording.info.goals)


def test_a_folder_that_is_no_checkpoint_is_refused_before_anything_starts(tmp_path):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "out"
    words = ["--episodes", "1", "--out", str(out), "--policy", str(tmp_path)]
    with pytest.raises(UserError):
        command.run(parser.parse_args(words))
    assert not out.exists()
