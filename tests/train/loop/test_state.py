import json

import pytest
import torch

from vlm4vla.errors import UserError
from vlm4vla.train.loop import state
from vlm4vla.train.loop.state import (
    TrainingState,
    load_state,
    restore_random_state,
    save_state,
)

STATE = TrainingState(5, {"a": torch.arange(40.0)}, {"x": 1})


def flip_a_bit(folder):
    """Changes one number of a state's tensors, so that the file is still a whole one."""
    file = folder / "state-00000005" / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    return file


def test_a_flipped_bit_is_named(tmp_path):
    save_state(tmp_path, STATE)
    assert load_state(tmp_path).facts == {"x": 1}
    file = flip_a_bit(tmp_path)
    with pytest.raises(UserError, match=f"The snapshot {file} cannot be read: .* not what was"):
        load_state(tmp_path)


def test_a_state_without_a_checksum_is_read(tmp_path):
    save_state(tmp_path, STATE)
    facts = tmp_path / "state-00000005" / "facts.json"
    facts.write_text(json.dumps({"step": 5, "x": 1}))
    flip_a_bit(tmp_path)
    assert load_state(tmp_path).facts == {"x": 1}


def test_large_states_have_no_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "_LARGE", 10)
    save_state(tmp_path, STATE)
    facts = json.loads((tmp_path / "state-00000005" / "facts.json").read_text())
    assert facts == {"step": 5, "x": 1}
    assert load_state(tmp_path).tensors["a"].tolist() == list(range(40))


@pytest.mark.parametrize("devices", [1, 3, 12, 16])
def test_random_states_go_back_to_the_devices_that_there_are_by_number(monkeypatch, devices):
    given = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.extend)
    saved = {f"random/cuda{i}": torch.tensor([i]) for i in range(12)}
    restore_random_state(saved | {"random/cpu": torch.get_rng_state()})
    assert [int(one) for one in given] == list(range(min(devices, 12)))
