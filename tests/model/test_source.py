"""Folders with traits of Hub repositories: what cannot be loaded says so in a true sentence."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm4vla.errors import UserError
from vlm4vla.model.load import load_vlm
from vlm4vla.model.vlm import save_vlm

EVIL = "open({!r}, 'w').write('it ran')"


@pytest.fixture
def folder(small, tmp_path):
    save_vlm(small("internvl"), tmp_path / "vlm")
    return tmp_path / "vlm"


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rename(folder, old, new):
    (folder / old).rename(folder / new)


def write(folder, name, content=""):
    (folder / name).write_text(content)


def shard(folder, values):
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": values}
    write(folder, "model.safetensors.index.json", json.dumps(index))


def store(folder, change):
    file = folder / "model.safetensors"
    tensors = {name: change(name, tensor) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def inside(folder, part, **changes):
    config = json.loads((folder / "config.json").read_text())
    edit(folder, **{part: config[part] | changes})


def only(folder, name):
    (folder / "model.safetensors").unlink()
    write(folder, name)


def without_config(folder, *names):
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    for name in names:
        write(folder, name)


CASES = {
    "empty config": (lambda f: write(f, "config.json"), "config.json is not readable"),
    "config that is a list": (lambda f: write(f, "config.json", "[]"), "but a list"),
    "config cut off": (lambda f: write(f, "config.json", '{"model_type": "in'), "not readable"),
    "config in another encoding": (
        lambda f: (f / "config.json").write_bytes(b'{"a": "\xff"}'),
        "config.json is no text",
    ),
    "config without a type": (lambda f: write(f, "config.json", "{}"), "names no model_type"),
    "unknown type": (lambda f: edit(f, model_type="vlm_of_2031"), "does not know the model type"),
    "custom code": (
        lambda f: edit(f, model_type="mine", auto_map={"AutoConfig": "mine.Config"}),
        "code of its own for 'mine', which is never run",
    ),
    "contradictory config": (
        lambda f: edit(f, text_config={"model_type": "qwen3", "hidden_size": "many"}),
        "transformers cannot build or run",
    ),
    "quantised": (
        lambda f: edit(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        r"quantised weights \(gptq\)",
    ),
    "quantised in a part": (
        lambda f: inside(f, "text_config", quantization_config={"quant_method": "awq"}),
        r"quantised weights \(awq\)",
    ),
    "quantised by MLX": (
        lambda f: edit(f, quantization={"group_size": 64, "bits": 4}),
        "quantised weights",
    ),
    "quantised, and nothing says so": (
        lambda f: store(f, lambda name, tensor: (10 * tensor).to(torch.int8)),
        r"quantised weights \(.*weight is stored as I8\)",
    ),
    "eight bits, and nothing says so": (
        lambda f: store(f, lambda name, tensor: tensor.to(torch.float8_e4m3fn)),
        "is stored as F8_E4M3",
    ),
    "brackets without end": (
        lambda f: write(f, "config.json", '{"a":' * 5000 + "1" + "}" * 5000),
        "config.json is not readable",
    ),
    "a config without its words": (
        lambda f: edit(f, text_config=None),
        "a model of 11,445,471,168 numbers in its config.json, but its weights are 250,432",
    ),
    "numbers as text": (
        lambda f: inside(f, "text_config", num_hidden_layers="2"),
        "'num_hidden_layers' expected int, got str",
    ),
    "only ONNX": (lambda f: only(f, "model.onnx"), "model.onnx is in another format. Pass"),
    "only an index of pickles": (
        lambda f: only(f, "pytorch_model.bin.index.json"),
        "pytorch_model.bin may be a pickle",
    ),
    "half a download": (
        lambda f: only(f, "model.safetensors.incomplete"),
        "was not downloaded to its end. Download it again",
    ),
    "in a folder of the folder": (
        lambda f: ((f / "llm").mkdir(), rename(f, "config.json", "llm/config.json")),
        "no config.json, so it is no VLM. Its folder .*llm has one",
    ),
    "a pickle under another name": (
        lambda f: (f / "model.safetensors").write_bytes(pickle.dumps({"a": 1}, protocol=4)),
        "model.safetensors is no .safetensors file, or not whole .*Copy it again",
    ),
    "a shard cut off": (
        lambda f: (
            shard(f, {"a": "m.safetensors"}),
            (f / "m.safetensors").write_bytes(b"\x40" + bytes(7) + b'{"a"'),
        ),
        "m.safetensors is no .safetensors file, or not whole",
    ),
    "an index without metadata": (
        lambda f: (
            shard(f, {}),
            write(f, "model.safetensors.index.json", '{"weight_map": {"a": "m"}}'),
        ),
        'has no "metadata", .*Put',
    ),
    "empty tokenizer": (lambda f: write(f, "tokenizer.json"), "tokenizer.json is not readable"),
    "odd tokenizer": (lambda f: write(f, "tokenizer.json", '{"a": 1}'), "tokenizer.json is not"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "it has no tokenizer.json"),
    "broken settings of pictures": (
        lambda f: write(f, "preprocessor_config.json", "{"),
        "preprocessor_config.json is not readable",
    ),
    "broken settings of the processor": (
        lambda f: write(f, "processor_config.json", "3"),
        "processor_config.json holds no settings, but a int",
    ),
    "pointer instead of weights": (
        lambda f: write(f, "model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer, not the file itself. Run `git lfs pull`",
    ),
    "pointer instead of words": (
        lambda f: write(f, "tokenizer.json", "version https://git-lfs.github.com/spec/v1\n"),
        "tokenizer.json is a Git LFS pointer",
    ),
    "empty weights": (lambda f: write(f, "model.safetensors"), "cannot be read"),
    "GGUF only": (lambda f: rename(f, "model.safetensors", "m-Q4.gguf"), "m-Q4.gguf is in GGUF"),
    "nothing but GGUF": (lambda f: without_config(f, "m-Q4.gguf"), "m-Q4.gguf is in GGUF"),
    "adapter only": (
        lambda f: without_config(f, "adapter_config.json", "adapter_model.safetensors"),
        "LoRA adapter, which is no whole VLM. Merge it",
    ),
    "adapter beside weights": (lambda f: write(f, "adapter_config.json", "{}"), "LoRA adapter"),
    "consolidated": (
        lambda f: without_config(f, "params.json", "consolidated.safetensors"),
        "consolidated in their authors' format",
    ),
    "consolidated beside a config": (
        lambda f: rename(f, "model.safetensors", "consolidated.safetensors"),
        "consolidated in their authors' format",
    ),
    "named after a precision": (
        lambda f: rename(f, "model.safetensors", "model.fp16.safetensors"),
        "in model.fp16.safetensors, not in model.safetensors. Rename it",
    ),
    "shards without an index": (
        lambda f: rename(f, "model.safetensors", "model-00001-of-00002.safetensors"),
        "no model.safetensors.index.json",
    ),
    "a shard is not there": (
        lambda f: shard(f, {"a": "model-00001-of-00001.safetensors"}),
        "lacks model-00001-of-00001.safetensors",
    ),
    "an index of a pickle": (
        lambda f: shard(f, {"a": "pytorch_model-00001.bin"}),
        "names pytorch_model-00001.bin, which may be a pickle",
    ),
    "an index of another folder": (
        lambda f: shard(f, {"a": "../other.safetensors"}),
        "a file elsewhere: ../other.safetensors",
    ),
    "an index of nothing": (lambda f: shard(f, {}), "names no weights"),
    "a broken index": (
        lambda f: (shard(f, {}), write(f, "model.safetensors.index.json", "{")),
        "index.json is not readable",
    ),
    "weights that are not finite": (
        lambda f: save_file(
            {
                name: torch.full_like(tensor, torch.nan)
                for name, tensor in load_file(f / "model.safetensors").items()
            },
            f / "model.safetensors",
            metadata={"format": "pt"},
        ),
        "NaN or infinity in the weight",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_folder_that_cannot_be_loaded_says_so(folder, case):
    damage, words = CASES[case]
    damage(folder)
    with pytest.raises(UserError, match=words) as caught:
        load_vlm(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_whole_index_loads(folder):
    rename(folder, "model.safetensors", "model-00001-of-00001.safetensors")
    names = load_file(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    write(folder, "model.safetensors.index.json", json.dumps(index))
    assert load_vlm(folder, device="cpu").family.name == "internvl"


def test_a_pickle_that_an_index_names_is_not_opened(folder, monkeypatch):
    names = load_file(folder / "model.safetensors")
    torch.save(names, folder / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it was opened"))
    shard(folder, dict.fromkeys(names, "pytorch_model.bin"))
    with pytest.raises(UserError, match="may be a pickle"):
        load_vlm(folder, device="cpu")


@pytest.mark.parametrize("kind", ["internvl", "unheard_of"])
def test_code_of_a_repository_is_never_run(folder, tmp_path, kind, monkeypatch):
    # The question whether to run it is answered with yes: nobody may be asked.
    monkeypatch.setattr("builtins.input", lambda *words: "y")
    trap = tmp_path / "trap"
    code = EVIL.format(str(trap)) + "\nclass Mine: pass\n"
    for name in ("configuration_mine", "modeling_mine", "tokenization_mine", "processing_mine"):
        write(folder, f"{name}.py", code)
    parts = {
        "AutoConfig": "configuration_mine.Mine",
        "AutoModel": "modeling_mine.Mine",
        "AutoTokenizer": ["tokenization_mine.Mine", "tokenization_mine.Mine"],
        "AutoProcessor": "processing_mine.Mine",
        "AutoImageProcessor": "processing_mine.Mine",
    }
    edit(folder, model_type=kind, auto_map=parts)
    for name in ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        write(folder, name, json.dumps({"auto_map": parts}))
    if kind == "internvl":
        assert load_vlm(folder, device="cpu").family.name == "internvl"
        assert load_vlm(folder, device="cpu", init="scratch").family.name == "internvl"
    else:
        with pytest.raises(UserError, match="never run"):
            load_vlm(folder, device="cpu")
    assert not trap.exists()
