import json
import resource
import shutil
from importlib import metadata

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.files import sha256_of
from vlm4vla.model import checkpoint
from vlm4vla.model.checkpoint import Provenance, checkpoint_hash, record_evaluation
from vlm4vla.model.groups import set_trainable
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import save_vlm


@pytest.fixture(scope="module")
def whole(policy, tmp_path_factory):
    """A checkpoint that tests must not change."""
    folder = tmp_path_factory.mktemp("whole") / "checkpoint"
    policy.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A checkpoint that a test may damage."""
    return shutil.copytree(whole, tmp_path / "checkpoint")


def _rehash(folder):
    """Makes the manifest agree with the files, as somebody would who means to deceive."""
    manifest = json.loads((folder / "policy.json").read_text())
    for name, entry in manifest["files"].items():
        entry["bytes"] = (folder / name).stat().st_size
        entry["sha256"] = sha256_of(folder / name)
    (folder / "policy.json").write_text(json.dumps(manifest))


def _edit(folder, **changes):
    manifest = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps(manifest | changes))


def test_round_trip_is_bit_equal(policy, whole, pictures):
    again = Policy.from_pretrained(whole)
    mine, theirs = policy.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    words = ["go", "push the red cube", "stop", "reach it"]
    assert (policy.act(pictures, words) == again.act(pictures, words)).all()
    assert again.spec == policy.spec
    assert not again.training


def test_half_precision_files_compute_in_full_precision(policy, tmp_path, pictures):
    policy.save_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    again = Policy.from_pretrained(tmp_path / "half")
    assert again.base.dtype == again.query.dtype == torch.float32
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    words = ["go"] * 4
    assert abs(policy.act(pictures, words) - again.act(pictures, words)).max() < 0.02


def test_manifest_says_where_it_comes_from(small, tmp_path):
    policy = Policy(small("paligemma"), action.tiny())
    set_trainable(policy, ["head"])
    story = Provenance(
        command="vlm4vla train --train head",
        data={"train": "abc123"},
        notes="It has seen nothing.",
    )
    policy.save_pretrained(tmp_path / "c", story)
    manifest = checkpoint.verify(tmp_path / "c")
    assert manifest["trainable"][0] == "query"
    assert all(name == "query" or name.startswith("head.") for name in manifest["trainable"])
    assert manifest["parameters"]["vision"]["trainable"] == 0
    assert manifest["libraries"]["torch"] == metadata.version("torch")
    assert manifest["data"] == {"train": "abc123"}
    card = (tmp_path / "c" / "README.md").read_text()
    for words in ("paligemma", "vlm4vla train --train head", "It has seen nothing."):
        assert words in card


def test_recording_an_evaluation_keeps_the_hash(folder):
    before = checkpoint_hash(folder)
    pick = {"n": 100, "successes": 87, "rate": 0.87, "wrong_object": 0.02}
    record_evaluation(folder, {"tasks": {"pick": pick}})
    assert checkpoint_hash(folder) == before
    assert checkpoint.verify(folder)["evaluation"]["tasks"]["pick"]["successes"] == 87
    assert "87 of 100" in (folder / "README.md").read_text()
    Policy.from_pretrained(folder)


def test_hash_changes_with_a_weight(policy, folder, tmp_path):
    with torch.no_grad():
        policy.query[0] += 1
    policy.save_pretrained(tmp_path / "other")
    with torch.no_grad():
        policy.query[0] -= 1
    assert checkpoint_hash(folder) != checkpoint_hash(tmp_path / "other")


def test_hash_changes_with_the_precision_that_it_computes_in(folder):
    before = checkpoint_hash(folder)
    manifest = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps(manifest | {"dtype": "bfloat16"}))
    assert Policy.from_pretrained(folder).base.dtype == torch.bfloat16
    assert checkpoint_hash(folder) != before


def test_what_counts_keeps_its_kind_in_another_precision(small, tmp_path):
    policy = Policy(small("internvl"), action.tiny())
    policy.base.vision_tower.register_buffer("batches", torch.tensor(70_001))
    policy.save_pretrained(tmp_path / "half", dtype=torch.float16)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert stored["vision_tower.batches"].item() == 70_001


@pytest.mark.parametrize("file", ["model.safetensors", "action.safetensors", "tokenizer.json"])
def test_truncated_and_over_long_files_are_refused(folder, file):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-8])
    with pytest.raises(UserError, match=f"{file} is shorter"):
        Policy.from_pretrained(folder)
    (folder / file).write_bytes(content + b"\0" * 8)
    with pytest.raises(UserError, match=f"{file} is longer"):
        Policy.from_pretrained(folder)


def test_a_swapped_file_is_refused(folder):
    file = folder / "action.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="not the file that was saved"):
        Policy.from_pretrained(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "state.pkl"])
def test_pickles_are_refused(folder, name):
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="pickle"):
        Policy.from_pretrained(folder)


def test_foreign_files_are_refused(folder):
    (folder / "model-00002.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="does not belong"):
        Policy.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "action.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"lacks {name}"):
        Policy.from_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("action.safetensors", lambda t: t.pop("query"), "lacks tensor 'query'"),
        ("action.safetensors", lambda t: t.update(x=torch.ones(1)), "unknown tensor 'x'"),
        ("action.safetensors", lambda t: t.update(query=torch.ones(3)), "'query' as .3,."),
        ("model.safetensors", lambda t: t.pop(min(t)), "lacks tensor"),
        ("model.safetensors", lambda t: t.update(x=torch.ones(1)), "unknown tensor 'x'"),
        ("model.safetensors", lambda t: t.update({min(t): torch.ones(1)}), "wrong shape"),
    ],
)
def test_every_tensor_is_accounted_for(folder, file, damage, words):
    tensors = load_file(folder / file)
    damage(tensors)
    save_file(tensors, folder / file, metadata={"format": "pt"})
    _rehash(folder)
    with pytest.raises(UserError, match=words):
        Policy.from_pretrained(folder)


def test_another_family_is_refused(folder):
    with pytest.raises(UserError, match="of the family 'qwen3-vl', not of 'paligemma'"):
        Policy.from_pretrained(folder, family="paligemma")
    _edit(folder, family="paligemma")
    with pytest.raises(UserError, match="says family 'paligemma' but holds 'qwen3-vl'"):
        Policy.from_pretrained(folder)


def test_changed_action_statistics_are_refused(folder):
    spec = action.tiny(caps=(0.9,) * 3 + (0,) * 3).to_json()
    _edit(folder, action=spec)
    with pytest.raises(UserError, match=r"action specification .* was changed"):
        Policy.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "words"), [("{", "not readable"), ('{"format": 1}', "lacks 'family'")]
)
def test_a_broken_manifest_is_refused(folder, content, words):
    (folder / "policy.json").write_text(content)
    with pytest.raises(UserError, match=words):
        Policy.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "float8"}, "precision 'float8'; known: float32"),
        ({"dtype": "save"}, "precision 'save'"),
        ({"dtype": None}, "wrong 'dtype': None"),
        ({"action": None}, "wrong 'action': None"),
        ({"files": []}, "wrong 'files'"),
        ({"files": {"config.json": 3}}, "describes the file 'config.json' wrongly"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "'../x' wrongly"),
    ],
)
def test_an_odd_manifest_is_refused(folder, changes, words):
    _edit(folder, **changes)
    with pytest.raises(UserError, match=words):
        Policy.from_pretrained(folder)


def test_a_manifest_that_is_a_list_is_refused(folder):
    (folder / "policy.json").write_text("[1]")
    with pytest.raises(UserError, match="a list"):
        Policy.from_pretrained(folder)


def test_steps_are_whole_numbers(folder):
    _edit(folder, action=action.tiny().to_json() | {"chunk": 4.0})
    with pytest.raises(UserError, match="not whole"):
        Policy.from_pretrained(folder)


@pytest.mark.parametrize("name", ["query", "head.arm.0.weight", "base.language_model.norm.weight"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_saved(small, tmp_path, name, value):
    policy = Policy(small(), action.tiny())
    with torch.no_grad():
        policy.get_parameter(name).view(-1)[1] = value
    with pytest.raises(UserError, match=f"{name.removeprefix('base.')!r} holds NaN or infinity"):
        policy.save_pretrained(tmp_path / "c")
    assert not any(tmp_path.iterdir())


def test_weights_that_overflow_in_another_precision_are_not_saved(small, tmp_path):
    policy = Policy(small(), action.tiny())
    with torch.no_grad():
        policy.query[0] = 1e5
    with pytest.raises(UserError, match="'query' holds NaN or infinity in float16"):
        policy.save_pretrained(tmp_path / "c", dtype=torch.float16)
    policy.save_pretrained(tmp_path / "c", dtype=torch.bfloat16)


@pytest.mark.parametrize("file", ["action.safetensors", "model.safetensors"])
def test_weights_that_are_not_finite_are_not_loaded(folder, file):
    tensors = load_file(folder / file)
    name = max(tensors)
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, folder / file, metadata={"format": "pt"})
    _rehash(folder)
    with pytest.raises(UserError, match="NaN or infinity in"):
        Policy.from_pretrained(folder)


def test_adapting_a_policy_again_points_to_loading_it(folder):
    with pytest.raises(UserError, match=r"drop its query and head. Use Policy.from_pretrained"):
        Policy.from_vlm(folder)
    fresh = Policy.from_vlm(folder, init="scratch", device="cpu")
    assert not fresh.query.any()


def test_a_newer_format_is_refused(folder):
    _edit(folder, format=2)
    with pytest.raises(UserError, match="format 2"):
        Policy.from_pretrained(folder)


def test_the_normalisation_of_sentences_is_declared_and_checked(folder):
    manifest = json.loads((folder / "policy.json").read_text())
    assert manifest["normalisation"] == "nfkc-lower-v1"
    _edit(folder, normalisation="none")
    with pytest.raises(UserError, match="nfkc-lower-v1"):
        Policy.from_pretrained(folder)


def test_a_bare_vlm_is_no_policy(policy, tmp_path):
    save_vlm(policy.vlm, tmp_path)
    with pytest.raises(UserError, match=r"bare VLM: use Policy.from_vlm"):
        Policy.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="no checkpoint folder"):
        Policy.from_pretrained(tmp_path / "nowhere")


def test_saving_replaces_a_checkpoint_and_nothing_else(policy, folder, tmp_path):
    policy.save_pretrained(folder)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoint"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="no checkpoint"):
        policy.save_pretrained(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_a_failed_save_leaves_the_old_checkpoint(policy, folder, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = checkpoint_hash(folder)
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="No space left"):
        policy.save_pretrained(folder)
    assert checkpoint_hash(folder) == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoint"]


def test_saving_to_a_link_writes_what_it_points_to(policy, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "later").symlink_to(tmp_path / "store" / "new")
    before = (folder / "README.md").read_text()
    for name in ("link", "later"):
        policy.save_pretrained(tmp_path / name, Provenance(notes="Saved through a link."))
        assert (tmp_path / name).is_symlink()
    assert "Saved through a link." not in before
    for target in (folder, tmp_path / "store" / "new"):
        assert "Saved through a link." in (target / "README.md").read_text()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoint", "later", "link", "store"]


def test_a_checkpoint_in_the_place_of_a_file_is_refused(policy, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match="mine: Not a directory"):
        policy.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("largest", [0, 1_000, 30_000])
def test_a_full_disk_leaves_the_old_checkpoint(policy, folder, tmp_path, largest):
    """A limit on the size of files stands for the disk: what is written beyond it is refused."""
    before = checkpoint_hash(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        with pytest.raises(UserError, match=r"write .*/checkpoint: File too large\. Free"):
            policy.save_pretrained(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint_hash(folder) == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoint"]


def test_readers_read_what_a_killed_save_put_aside_and_move_nothing(policy, folder, tmp_path):
    before = checkpoint_hash(folder)
    aside = tmp_path / ".checkpoint.saving-x1"
    aside.mkdir()
    folder.rename(aside / "old")
    Policy.from_pretrained(folder)
    assert checkpoint_hash(folder) == before
    assert not folder.exists()
    assert sorted(f.name for f in aside.iterdir()) == ["old"]
    record_evaluation(folder, {"tasks": {}})
    assert folder.is_dir()
    assert checkpoint_hash(folder) == before


def test_reading_works_where_nothing_may_be_written(folder, tmp_path):
    files = {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in folder.iterdir()}
    Policy.from_pretrained(folder)
    assert files == {f: (f.stat().st_mtime_ns, f.stat().st_ino) for f in folder.iterdir()}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoint"]
