"""The language stage in miniature for every registered family."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.policy import Policy
from vlm4vla.model.prompt import token_ids
from vlm4vla.train.auxiliary.patch_words import PatchWordLoss
from vlm4vla.train.batches.pictures import draw_pool
from vlm4vla.train.batches.transfer import to_tensors
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives.language import (
    LanguageObjective,
    LanguageRecipe,
    answers_in,
    make_backbone,
)
from vlm4vla.train.speed.cpu_layers import fast_layers
from vlm4vla.train.vqa import measure_skill

LOOP = Recipe(steps=4, batch=3, learning_rate=1e-3)
# The chosen sizes are for training.
SMALL = {
    "qwen3-vl": {
        "vision_layers": 3,
        "vision_width": 48,
        "language_layers": 2,
        "language_width": 48,
        "heads": 4,
    },
    **{
        name: {"width": 48, "layers": 2, "vision_layers": 1, "heads": 4}
        for name in ("internvl", "paligemma", "kosmos-2")
    },
}


@pytest.fixture(scope="module")
def pool():
    return draw_pool(6)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_learns_patches_words_and_places(family, pool):
    vlm = make_backbone(family, **SMALL.get(family, {}))
    policy = Policy.from_vlm(vlm, action.tiny(), device="cpu")
    recipe = LanguageRecipe(LOOP, family, questions=2, alignment_steps=1)
    objective = LanguageObjective(policy, pool, recipe)
    seeing, asking = (to_tensors(objective.batch(i), policy.device) for i in (0, 1))
    assert seeing.asked is None
    with fast_layers(policy):
        _, metrics = objective.module(seeing)
        assert set(metrics) == {"colour", "kind", "across", "down"}
        loss, metrics = objective.module(asking)
        assert set(metrics) == {"colour", "kind", "across", "down", "names", "answers"}
        loss.backward()
        skill = measure_skill(policy, pool)
    assert torch.isfinite(loss)
    assert skill.asked["bound"] == sum(len(items) for items in pool.items if len(items) > 1)
    assert {"first broad", "first held-out", "referred"} <= set(skill.accuracy)
    for part in (*vlm.family.vision, *vlm.family.language):
        inside = [p for n, p in policy.base.named_parameters() if n.startswith(part)]
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in inside), part
    assert vlm.words.grad is not None


@pytest.mark.parametrize("family", ["qwen3-vl", "florence-2"])
def test_the_state_that_predicts_a_token_stands_before_it(family, pool):
    """Fed the words of an answer one by one, the model must say the next: columns are right."""
    vlm = make_backbone(family, **SMALL.get(family, {}))
    policy = Policy.from_vlm(vlm, action.tiny(), device="cpu").eval()
    decoder = vlm.base.config.is_encoder_decoder
    rows = policy.rows(["What is the red thing?", "a"], [" red cube", " no"])
    answers = answers_in(rows, decoder)
    ids = [token_ids(vlm.tokenizer, text + vlm.family.end) for text in (" red cube", " no")]
    assert answers.ids.tolist() == [*ids[0], *ids[1]]
    assert answers.rows.tolist() == [0] * len(ids[0]) + [1] * len(ids[1])
    if decoder:
        # A decoder begins with a token of its own, which predicts the first.
        assert answers.columns.tolist() == [*range(len(ids[0])), *range(len(ids[1]))]
    else:
        before = rows.ids[answers.rows, answers.columns]
        inside = answers.columns[1 : len(ids[0])]
        assert before[1 : len(ids[0])].tolist() == ids[0][:-1]
        assert (inside == answers.columns[0] + torch.arange(1, len(ids[0]))).all()


def test_a_vlm_without_places_is_refused_before_anything_is_drawn():
    vlm = make_backbone("kosmos-2", **SMALL["kosmos-2"])
    vlm.family = replace(vlm.family, patches="")
    with pytest.raises(UserError, match="No place of a picture has a state of its own"):
        PatchWordLoss(vlm)


def test_a_latent_and_its_patch_learn_the_same_words(pool):
    vlm = make_backbone("kosmos-2", **SMALL["kosmos-2"], latents=64)
    policy = Policy.from_vlm(vlm, action.tiny(), device="cpu")
    words = PatchWordLoss(vlm)
    with torch.inference_mode(), words.watching():
        features = policy.encode(pool.images[:2])
        patches, latents = words._grids(features.tokens)
    assert patches.shape == latents.shape == (2, 64, 48)
    assert torch.equal(latents, features.tokens)
    fewer = make_backbone("kosmos-2", **{**SMALL["kosmos-2"], "latents": 16})
    other = PatchWordLoss(fewer)
    with torch.inference_mode(), other.watching():
        tokens = Policy.from_vlm(fewer, action.tiny(), device="cpu").encode(pool.images[:2]).tokens
        assert [grid.shape[1] for grid in other._grids(tokens)] == [64]


def test_mirrored_pictures_are_those_that_are_labelled(pool):
    policy = Policy.from_vlm(make_backbone(**SMALL["qwen3-vl"]), action.tiny(), device="cpu")
    objective = LanguageObjective(policy, pool, LanguageRecipe(LOOP, alignment_steps=1))
    seen = []
    policy.encode = lambda images: seen.append(images.clone()) or 1 / 0
    batch = next(b for i in range(9) if (b := objective.batch(i)).mirrored.any())
    with pytest.raises(ZeroDivisionError):
        objective.module(to_tensors(batch, policy.device))
    for image, number, flipped in zip(seen[0], batch.pictures, batch.mirrored, strict=True):
        expected = pool.images[number][:, ::-1] if flipped else pool.images[number]
        assert (image.numpy() == expected).all()
    assert isinstance(batch.pictures, np.ndarray)
