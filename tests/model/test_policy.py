import copy

import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy

WORDS = ["pick up the red cube", "push it", "reach the yellow plate on the table", "go"]


def test_act_gives_chunks_in_environment_units(policy, pictures):
    chunk = policy.act(pictures, WORDS)
    assert chunk.shape == (4, 4, 7)
    assert chunk.dtype == np.float32
    assert abs(chunk[..., :3]).max() <= 0.6
    assert not chunk[..., 3:6].any()
    assert set(np.unique(chunk[..., 6])) <= {-1, 1}


def test_act_is_unnormalised_prediction(policy, pictures):
    with torch.no_grad():
        arm, gripper = policy(pictures, WORDS)
    chunk = policy.act(pictures, WORDS)
    np.testing.assert_allclose(chunk[..., :3], arm[..., :3].numpy() * 0.6, atol=1e-6)
    assert ((chunk[..., 6] == 1) == (gripper.numpy() > 0)).all()


def test_numbers_of_pictures_and_instructions_must_agree(policy, pictures):
    with pytest.raises(UserError, match="4 pictures came with 1 instructions"):
        policy.act(pictures, ["go"])


def test_one_string_is_no_list_of_instructions(policy, pictures):
    for wrong in ("go", []):
        with pytest.raises(UserError, match="list of sentences"):
            policy.act(pictures[:1], wrong)


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        (None, "must be a sentence, not NoneType"),
        (3, "not int"),
        (b"go", "not bytes"),
        ("pick \ud800 up", "half a character"),
        ("red " * 2000, r"a prompt of \d+ tokens, and the VLM reads 1024. Say it in fewer words"),
    ],
)
def test_an_instruction_is_a_sentence_that_the_vlm_can_read(policy, pictures, instruction, words):
    with pytest.raises(UserError, match=words):
        policy.act(pictures[:1], [instruction])


def test_pictures_may_come_as_a_list(policy, pictures):
    chunk = policy.act(pictures, WORDS)
    np.testing.assert_array_equal(policy.act(list(pictures), WORDS), chunk)
    np.testing.assert_array_equal(
        policy.act(pictures[0], WORDS[:1]), policy.act(pictures[:1], WORDS[:1])
    )


def test_no_action_is_ever_nan(small, pictures):
    policy = Policy(small(), action.tiny()).eval()
    weight = policy.base.visual.blocks[1].attn.proj.weight
    with torch.no_grad():
        kept = float(weight[3, 2])
        weight[3, 2] = torch.nan
    with pytest.raises(UserError, match=r"'base.visual.blocks.1.attn.proj.weight' is not finite"):
        policy.act(pictures[:1], ["go"])
    with torch.no_grad():
        weight[3, 2] = kept
        policy.head.trunk[0].weight.mul_(1e38)
        policy.head.trunk[2].weight.mul_(1e38)
    with pytest.raises(UserError, match="not finite in float32, although its weights are"):
        policy.act(pictures[:1], ["go"])


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.half(),
        lambda p: p.bfloat16(),
        lambda p: p.double(),
        lambda p: p.to(torch.float16),
        lambda p: torch.nn.ModuleList([p]).to(dtype=torch.bfloat16),
    ],
)
def test_precision_is_chosen_at_loading(policy, pictures, change):
    before = policy.act(pictures, WORDS)
    with pytest.raises(UserError, match="when it is loaded"):
        change(policy)
    np.testing.assert_array_equal(policy.float().to("cpu").act(pictures, WORDS), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_precision_acts_alike(policy, pictures, tmp_path, dtype):
    policy.save_pretrained(tmp_path / "c")
    other = Policy.from_pretrained(tmp_path / "c", "cpu", dtype=dtype)
    assert other.base.dtype == dtype
    assert other.query.dtype == torch.float32
    difference = other.act(pictures, WORDS) - policy.act(pictures, WORDS)
    assert abs(difference[..., :3]).max() < (0.02 if dtype == torch.bfloat16 else 1e-4)


def test_chunk_length_comes_from_the_specification(small, pictures):
    policy = Policy(small(), action.tiny(chunk=7))
    assert policy.act(pictures[:1], ["go"]).shape == (1, 7, 7)


def test_query_starts_at_zero_as_in_the_paper_or_at_the_words_scale(small):
    vlm = small(embedding_std=0.5)
    first = Policy(vlm, action.tiny())
    assert not first.query.any()
    with pytest.raises(UserError, match="already belongs"):
        Policy(vlm, action.tiny())
    first.detach()
    query = Policy(vlm, action.tiny(), query_init="embedding").query
    assert 0.35 < query.std() < 0.65
    with pytest.raises(UserError, match="zero, embedding"):
        Policy(vlm, action.tiny(), query_init="ones")


def test_one_vision_pass_serves_many_instructions(policy, pictures, monkeypatch):
    calls = []
    tower = policy.base.visual
    forward = tower.forward
    monkeypatch.setattr(tower, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    index = torch.tensor([0, 0, 2, 1])
    with torch.no_grad():
        shared = policy(pictures, WORDS, index)
        assert len(calls) == 1
        apart = policy(pictures[index], WORDS)
    torch.testing.assert_close(shared.arm, apart.arm, atol=1e-5, rtol=0)


def test_gradient_reaches_query_words_pixels_and_head(policy, pictures):
    image = torch.tensor(pictures[:1] / 255, dtype=torch.float32, requires_grad=True)
    prediction = policy(image, ["go"])
    targets = torch.zeros(1, 4, 6), torch.zeros(1, 4), torch.ones(1, 4)
    policy.loss(prediction, *targets).backward()
    for tensor in (policy.query, policy.vlm.words, image, policy.head.arm[-1].weight):
        assert tensor.grad.any()
    policy.zero_grad()


def test_features_are_in_the_order_of_the_picture(policy):
    # Patches are 16 pixels: a white square in patch (row 2, column 5) changes token 21 most.
    dark = np.zeros((2, 128, 128, 3), np.uint8)
    dark[1, 32:48, 80:96] = 255
    with torch.no_grad():
        plain, spot = policy.encode(dark).tokens
    assert plain.shape == (64, policy.vlm.width)
    assert (spot - plain).norm(dim=-1).argmax() == 2 * 8 + 5


def test_word_logits_are_the_tied_heads(policy):
    states = torch.randn(2, 3, policy.vlm.width)
    logits = policy.word_logits(states)
    assert logits.shape == (2, 3, len(policy.vlm.words))
    torch.testing.assert_close(logits[1, 2, 7], states[1, 2] @ policy.vlm.words[7])


def test_detach_restores_the_bare_vlm(small, pictures):
    vlm = small()
    before = _hooks(vlm.base)
    policy = Policy(vlm, action.tiny())
    assert _hooks(vlm.base) > before
    policy.detach()
    assert _hooks(vlm.base) == before
    policy.attach()
    assert policy.act(pictures[:1], ["go"]).shape == (1, 4, 7)


def test_a_copy_has_its_own_query(policy, pictures):
    # Averaged weights are kept in a copy: its hooks must not read the original's query.
    twin = copy.deepcopy(policy)
    twin.vlm.base = twin.base
    before = policy.act(pictures, WORDS)
    with torch.no_grad():
        twin.query.add_(1.0)
    assert abs(twin.act(pictures, WORDS) - before).max() > 1e-4
    np.testing.assert_array_equal(policy.act(pictures, WORDS), before)


def _hooks(base):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in base.modules())
