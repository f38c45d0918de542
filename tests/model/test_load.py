import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import save_tokenizer, save_vlm


@pytest.fixture
def folder(small, tmp_path):
    """A plain transformers folder whose weights no default seed gives."""
    save_vlm(small("internvl", seed=7), tmp_path)
    return tmp_path


def test_folder_round_trip(small, folder, pictures):
    vlm = load_vlm(folder, device="cpu")
    assert vlm.family.name == "internvl"
    kept = small("internvl", seed=7).base.state_dict()
    assert all(torch.equal(kept[n], t) for n, t in vlm.base.state_dict().items())
    policies = [Policy(v, action.tiny()) for v in (small("internvl", seed=7), vlm)]
    mine, theirs = (policy.encode(pictures).tokens for policy in policies)
    assert torch.equal(mine, theirs)


def test_a_word_head_is_passed_over_and_nothing_else(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = torch.ones(4, 4)
    save_file(tensors, file, metadata={"format": "pt"})
    load_vlm(folder, device="cpu")
    with pytest.raises(UserError, match=r"unknown tensor 'lm_head.weight'"):
        load_vlm(folder, device="cpu", complete=True)
    tensors["surprise"] = torch.ones(1)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="unknown tensor 'surprise'"):
        load_vlm(folder, device="cpu")


def test_missing_weights_are_never_random(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors[next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks tensor '.*layers.1.mlp.up_proj.weight'"):
        load_vlm(folder, device="cpu")


def test_truncated_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read"):
        load_vlm(folder, device="cpu")


def test_a_tokenizer_of_another_family(small, folder):
    save_tokenizer(small("smolvlm"), folder)
    with pytest.raises(
        UserError, match=r"looks like internvl, .* no token '<\|endoftext\|>'|<img>"
    ):
        load_vlm(folder, device="cpu")


def test_only_pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin may be a pickle"):
        load_vlm(folder, device="cpu")


def test_scratch_keeps_the_architecture_and_no_weight(folder):
    trained, fresh = load_vlm(folder, device="cpu"), load_vlm(folder, device="cpu", init="scratch")
    assert fresh.base.config.to_dict().keys() == trained.base.config.to_dict().keys()
    for name, tensor in trained.base.state_dict().items():
        other = fresh.base.state_dict()[name]
        assert other.shape == tensor.shape
        assert other.dtype == tensor.dtype
    assert not torch.equal(fresh.words, trained.words)
    again = load_vlm(folder, device="cpu", init="scratch")
    assert torch.equal(fresh.words, again.words)
    with pytest.raises(UserError, match="vlm, scratch"):
        load_vlm(folder, init="ones")


def test_a_seed_draws_the_fresh_weights_of_a_tiny_preset_and_no_others():
    def words(init, seed):
        return load_vlm("internvl:tiny", device="cpu", init=init, seed=seed).words

    preset, fresh = words("vlm", 0), words("scratch", 3)
    assert torch.equal(fresh, words("scratch", 3))
    assert not torch.equal(fresh, words("scratch", 4))
    # A run that starts from a preset's own weights is told by the preset's name alone.
    assert torch.equal(preset, words("vlm", 3))


def test_random_state_of_the_caller_is_kept(small):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    small("internvl")
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen:tiny", "Did you mean 'qwen"),
        ("qwen3-vl:huge", "known: tiny, paper"),
        ("nowhere", "no VLM folder"),
        ("/nowhere/at/all", "no VLM folder"),
    ],
)
def test_unknown_names(name, words):
    with pytest.raises(UserError, match=words):
        load_vlm(name)


@pytest.mark.parametrize("name", ["", "a" * 5000, "a b/c d", "-x/y", "../x", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_name_of_the_hub(name):
    with pytest.raises(UserError, match="no VLM folder"):
        load_vlm(name)
    with pytest.raises(UserError, match="no VLM folder"):
        Policy.from_vlm(name)


@pytest.mark.parametrize("device", ["tpu", "gpu", "cuda:77", 77])
def test_a_device_that_is_not_there_is_named_before_anything_is_loaded(device):
    with pytest.raises(UserError, match=rf"no device {device!r} here\. Here are: .*cpu"):
        load_vlm("/nowhere", device=device)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e4m3fn, "bf16", 3])
def test_a_precision_that_no_vlm_computes_in_is_refused(dtype):
    with pytest.raises(UserError, match=r"Unknown precision .*torch\.bfloat16"):
        load_vlm("qwen3-vl:tiny", dtype=dtype)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match=r"no config.json"):
        load_vlm(tmp_path)


@pytest.mark.parametrize("name", ["qwen3-vl:paper", "Qwen/Qwen3-VL-2B-Instruct"])
def test_offline_says_what_to_do(name):
    with pytest.raises(UserError) as caught:
        load_vlm(name)
    assert caught.value.problem == (
        "Qwen/Qwen3-VL-2B-Instruct is not in the local cache and the Hub cannot be reached."
    )
    assert "hf download Qwen/Qwen3-VL-2B-Instruct" in caught.value.fix


MEASURE = """
import json, resource, sys
import numpy as np
from vlm4vla import action
from vlm4vla.model.policy import Policy

def memory(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))

picture = np.zeros((1, 128, 128, 3), np.uint8)
Policy.from_vlm("qwen3-vl:tiny", action.tiny(), device="cpu").act(picture, ["go"])
before = memory("VmRSS:")
policy = Policy.from_vlm(sys.argv[1], action.tiny(), device="cpu")
policy.act(picture, ["go"])
weights = sum(p.numel() * p.element_size() for p in policy.parameters())
print(json.dumps([weights, memory("VmHWM:") - before, str(policy.base.dtype)]))
"""


def test_peak_memory_is_the_weights_and_a_tenth(small, tmp_path):
    vlm = small()
    sizes = {"language_width": 1024, "language_layers": 22, "heads": 16, "vision_width": 256}
    with torch.device("meta"):
        base = AutoModel.from_config(vlm.family.tiny(vlm.tokenizer.get_vocab(), **sizes))
    base = base.to(torch.bfloat16).to_empty(device="cpu")
    for parameter in base.parameters():
        torch.nn.init.zeros_(parameter)
    base.save_pretrained(tmp_path, max_shard_size="120MB")
    save_tokenizer(vlm, tmp_path)
    del base, vlm
    shards = list(tmp_path.glob("model-*.safetensors"))
    assert len(shards) >= 5
    assert sum(shard.stat().st_size for shard in shards) > 550e6
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    weights, peak, dtype = json.loads(run.stdout.splitlines()[-1])
    assert dtype == "torch.bfloat16"
    assert weights > 550e6
    assert peak <= 1.1 * weights
