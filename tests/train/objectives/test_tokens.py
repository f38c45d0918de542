"""The stage "tokens" in miniature: a VLM that answers instructions with action tokens."""

import copy
import json
from dataclasses import replace
from functools import cache as cache_of_results

import numpy as np
import pytest
import torch
from synthetic import make_cache

from vlm4vla import action, cli
from vlm4vla.errors import UserError
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import save_vlm
from vlm4vla.train import stages
from vlm4vla.train.fast_tokens import FILE, FastTokens
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives import tokens as stage
from vlm4vla.train.objectives.imitation import ImitationObjective, ImitationRecipe
from vlm4vla.train.objectives.language import make_backbone
from vlm4vla.train.objectives.tokens import (
    TOKEN,
    TokensObjective,
    TokensRecipe,
    action_tokens,
    add_words,
)
from vlm4vla.train.provenance import lineage, remember
from vlm4vla.train.run import Run
from vlm4vla.train.stages import learned_and_unseen, run_tokens
from vlm4vla.train.start import start_policy

SIZES = {
    "qwen3-vl": {
        "vision_layers": 3,
        "vision_width": 40,
        "language_layers": 3,
        "language_width": 40,
    },
    "internvl": {"vision_layers": 3, "layers": 3, "width": 40},
}
LOOP = Recipe(steps=6, batch=4, learning_rate=1e-3, warmup=1, ema=0.0)
TASKS = ("reach", "pick")


@pytest.fixture(scope="module")
def cache():
    return make_cache(episodes=12, frames=3)


@cache_of_results
def once(family):
    return make_backbone(family, seed=1, **SIZES[family])


def backbone(family="qwen3-vl"):
    """One of its own; to make a tokenizer takes seconds."""
    return copy.deepcopy(once(family))


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    made = backbone()
    remember(made, "language", {}, {}, {})
    save_vlm(made, folder)
    return folder


@pytest.fixture
def objective(cache):
    """Of a VLM with action tokens, and the frames that it learns from."""
    learned, _ = learned_and_unseen(cache, TASKS)

    def make(family="qwen3-vl", **more):
        made = backbone(family)
        found = action_tokens(made, action.tiny(), learned)
        add_words(made, found, 0)
        policy = Policy.from_vlm(made, action.tiny())
        return TokensObjective(policy, found, learned, TokensRecipe(LOOP, **more)), found

    return make


def answered(objective, tokens, batch):
    """The chunks that a batch's rows answer with, read back from their token ids."""
    known = {objective.vlm.tokenizer.token_to_id(TOKEN.format(i)): i for i in range(tokens.size)}
    rows = [[] for _ in batch.asked.image_index]
    ends = 0
    for row, token in zip(batch.answers.rows, batch.answers.ids, strict=True):
        if int(token) in known:
            rows[row].append(known[int(token)])
        else:
            ends += 1
    assert ends == len(rows)
    return tokens.decode(rows)


@pytest.mark.parametrize("family", ["qwen3-vl", "internvl"])
def test_the_answer_is_the_chunk_that_imitation_learns_from_the_same_frame(objective, family):
    asking, tokens = objective(family)
    acting = ImitationObjective(
        Policy.from_vlm(backbone(), action.tiny()),
        asking.frames,
        ImitationRecipe(LOOP, 1, 0.01, 0.0, 0.0, 0.0, asking.recipe.brightness),
    )
    for index in (0, 3):
        batch, other = asking.batch(index), acting.batch(index)
        assert np.array_equal(batch.numbers, other.numbers)
        assert np.array_equal(batch.factors, other.factors)
        spec = action.tiny()
        wanted = spec.unnormalise(other.arm, other.gripper - 0.5)
        off = np.abs(answered(asking, tokens, batch) - wanted)
        assert off[..., :3].max() < 0.03 and not off[..., 3:].any()


def test_shuffled_answers_are_those_of_frames_drawn_alike(objective):
    plain, tokens = objective()
    shuffled, _ = objective(shuffled=True)
    batches = [(plain.batch(i), shuffled.batch(i)) for i in range(6)]
    for one, other in batches:
        assert np.array_equal(one.numbers, other.numbers)
    first = np.concatenate([answered(plain, tokens, one) for one, _ in batches])
    second = np.concatenate([answered(shuffled, tokens, one) for _, one in batches])
    same = np.isclose(first, second, atol=0.03).all((1, 2))
    assert len(same) == 24 and same.mean() < 0.3
    every = plain.frames.every_goal(plain.frames.numbers, np.random.default_rng(0)).chunks
    for chunk in second:
        assert np.abs(every - chunk).max((1, 2)).min() < 0.03
    again = shuffled.batch(2).answers.ids
    assert np.array_equal(again, batches[2][1].answers.ids)


def test_new_words_are_drawn_like_the_old_ones_and_leave_them_alone():
    vlm, plain = backbone(), once("qwen3-vl")
    old = len(vlm.words)
    tokens = action_tokens(vlm, action.tiny(), learned_and_unseen(make_cache(4, 2), ())[0])
    add_words(vlm, tokens, 0)
    assert torch.equal(vlm.words[:old], plain.words)
    assert len(vlm.words) == old + tokens.size == vlm.tokenizer.get_vocab_size()
    assert abs(vlm.words[old:].std() / plain.words.std() - 1) < 0.1
    # A second time nothing is added.
    add_words(vlm, tokens, 0)
    assert len(vlm.words) == old + tokens.size


def test_a_run_writes_a_vlm_with_action_tokens_from_which_a_policy_starts(vlm, cache, tmp_path):
    groups = ("language", "embeddings", "projector")
    policy = start_policy(vlm, "vlm", "cpu")
    target = run_tokens(Run(tmp_path / "run"), TokensRecipe(LOOP), policy, cache, TASKS, groups)
    before, after = load_vlm(vlm, torch.float32), load_vlm(target, torch.float32)
    learned = dict(after.base.named_parameters())
    for name, value in before.base.named_parameters():
        now = learned[name][: len(value)]
        assert torch.equal(value, now) == name.startswith("visual."), name
    assert [entry["stage"] for entry in lineage(after)] == ["language", "tokens"]
    found = json.loads((tmp_path / "run" / "tokens.json").read_text())
    assert found["nats"] > 0 and 0 <= found["right_all"] <= 1
    assert {"right_pick", "right_reach"} <= found.keys()
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["groups"] == list(groups) and recipe["shuffled"] is False
    assert "vision" in recipe["frozen"]
    # Going on keeps the tokens that it has.
    kept = FastTokens.from_json(after.extras[FILE])
    again = start_policy(target, "vlm", "cpu")
    run_tokens(Run(tmp_path / "again"), TokensRecipe(LOOP), again, cache, TASKS)
    further = load_vlm(tmp_path / "again" / "vlm")
    assert further.extras[FILE] == kept.to_json()
    assert len(further.words) == len(after.words)


def test_kept_tokens_of_other_actions_are_refused(cache):
    learned, _ = learned_and_unseen(cache, TASKS)
    vlm, spec = backbone(), action.tiny()
    kept = action_tokens(vlm, replace(spec, frame="gripper"), learned)
    vlm.extras[FILE] = kept.to_json()
    with pytest.raises(UserError, match="the VLM's kept tokens have another meaning here: frame"):
        action_tokens(vlm, spec, learned)


def test_what_answers_mean_is_learned(objective, monkeypatch):
    monkeypatch.setattr(stage, "sharpness_of", lambda vlm: 0.15)
    torch.manual_seed(0)
    asking, _ = objective()
    batch = stage.to_tensors(asking.batch(0), torch.device("cpu"))
    optimiser = torch.optim.AdamW(asking.module.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss, _ = asking.module(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_what_cannot_be_is_refused(vlm, cache, tmp_path, capsys):
    policy = start_policy(vlm, "vlm", "cpu")
    with pytest.raises(UserError, match="Query and head write no tokens"):
        run_tokens(Run(tmp_path), TokensRecipe(LOOP), policy, cache, TASKS, ["head"])
    assert cli.main(["train", "imitation", "--shuffled", "--out", str(tmp_path / "a")]) == 2
    assert "no action tokens to shuffle" in capsys.readouterr().err
    assert cli.main(["train", "all", "--shuffled", "--out", str(tmp_path / "b")]) == 2
    assert "--shuffled is for one stage" in capsys.readouterr().err


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(vlm, cache, tmp_path):
    recipe = TokensRecipe(replace(LOOP, save_every=2))
    real = stages.TokensObjective.batch

    class Stopped(BaseException):
        pass

    def batch(self, index, rank=0, ranks=1):
        if index == 4:
            raise Stopped
        return real(self, index, rank, ranks)

    whole = run_tokens(Run(tmp_path / "whole"), recipe, start_policy(vlm, "vlm", "cpu"), cache)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(stages.TokensObjective, "batch", batch)
        run_tokens(Run(tmp_path / "part"), recipe, start_policy(vlm, "vlm", "cpu"), cache)
    part = run_tokens(Run(tmp_path / "part"), recipe, start_policy(vlm, "vlm", "cpu"), cache)
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (part / name).read_bytes()
