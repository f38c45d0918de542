import pytest
import torch
import torch.nn.functional as F

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import make_tiny
from vlm4vla.train.auxiliary.noun_positions import NounPositionLoss, query_state_and_nouns
from vlm4vla.train.batches.transfer import to_tensors
from vlm4vla.train.objectives.language import make_backbone
from vlm4vla.train.speed.prefix_cache import ask_rows, query_of, row_states
from vlm4vla.train.synthetic.questions import corpus

SIZES = {"vision_layers": 3, "vision_width": 48, "language_layers": 4, "language_width": 48}
CELLS = {"red cube": (3, 7), "blue bowl": (30, 1)}


@pytest.fixture(scope="module")
def policy():
    return Policy.from_vlm(make_backbone(**SIZES, heads=4), action.tiny(), device="cpu")


def test_names_are_found_where_their_last_token_stands(policy):
    lesson = NounPositionLoss(policy.vlm)
    texts = ["put the red cube in the blue bowl", "is there a red ball", "lift the red cube"]
    rows = policy.rows(texts)
    named = lesson.find(rows, [CELLS, CELLS, CELLS])
    assert named.rows.tolist() == [0, 0, 2]
    assert named.across.tolist() == [3, 30, 3]
    assert named.down.tolist() == [7, 1, 7]
    words = [
        policy.vlm.tokenizer.decode([int(rows.ids[row, place])])
        for row, place in zip(named.rows, named.columns, strict=True)
    ]
    assert words == [" cube", " bowl", " cube"]


def test_the_robotic_arm_of_the_prompt_is_two_places(policy):
    lesson = NounPositionLoss(policy.vlm)
    rows = policy.rows([policy.vlm.family.text("lift the red cube")])
    cells = {**CELLS, "robotic arm": (11, 20), "tips": (11, 12)}
    named = lesson.find(rows, [cells])
    found = {
        policy.vlm.tokenizer.decode([int(rows.ids[0, column])]): (across, down)
        for column, across, down in zip(
            named.columns.tolist(), named.across.tolist(), named.down.tolist(), strict=True
        )
    }
    assert found == {" robotic": (11, 12), " arm": (11, 20), " cube": (3, 7)}
    assert lesson.find(rows, [CELLS]).across.tolist() == [3]


def test_names_in_answers_are_for_the_words_to_learn(policy):
    lesson = NounPositionLoss(policy.vlm)
    rows = policy.rows(["What is the red thing?"], [" red cube"])
    assert lesson.find(rows, [CELLS]).rows.tolist() == []


def test_a_known_place_costs_nothing_and_a_wrong_one_much(policy):
    lesson = NounPositionLoss(policy.vlm)
    rows = policy.rows(["lift the red cube"])
    named = lesson.find(rows, [CELLS])
    tokens = [policy.vlm.tokenizer.token_to_id(t) for t in ("<across_03>", "<down_07>")]
    right = policy.vlm.words[tokens].sum(0).detach()
    elsewhere = [policy.vlm.tokenizer.token_to_id(t) for t in ("<across_20>", "<down_07>")]
    losses = []
    for state in (right, policy.vlm.words[elsewhere].sum(0).detach()):
        lesson._states = torch.zeros(1, rows.ids.shape[1], policy.vlm.width)
        lesson._states[named.rows, named.columns] = state
        loss, metrics = lesson(to_tensors(named, torch.device("cpu")), 0)
        losses.append((loss.item(), metrics["names"].item()))
    # States count by their direction: 48 wide at root mean square 1, a quarter of the score.
    words = policy.vlm.words[lesson._across].detach()
    expected = F.cross_entropy(F.rms_norm(right, (48,)) / 4 @ words.T, torch.tensor(3))
    assert losses[0][0] > expected.item()
    assert losses[0][1] == 1.0
    assert losses[1][0] > losses[0][0] + 1
    assert losses[1][1] == 0.0


def test_listening_gives_the_same_query_and_a_gradient_to_the_first_half_only(policy):
    images = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    texts = ["lift the red cube", "touch the blue bowl", "lift the red cube"]
    index = torch.tensor([0, 0, 1])
    policy.zero_grad(set_to_none=True)
    features = policy.encode(images)
    lesson = NounPositionLoss(policy.vlm)
    spoken = [policy.vlm.family.text(text) for text in texts]
    asked = ask_rows(policy.vlm, spoken, None, index.numpy())
    nouns = to_tensors(lesson.find(asked.rows, [CELLS] * 3), policy.device)
    asked = to_tensors(asked, policy.device)
    state, loss, _ = query_state_and_nouns(policy, features, asked, lesson, nouns)
    states, column = row_states(policy, features, asked)
    assert torch.equal(state, query_of(policy, states, asked, column))
    loss.backward()
    layers = policy.base.language_model.layers
    learned = [layer.mlp.down_proj.weight.grad is not None for layer in layers]
    assert learned == [True, True, False, False]
    assert policy.base.visual.patch_embed.proj.weight.grad.abs().sum() > 0
    assert not layers[1]._forward_hooks


def test_a_vlm_without_location_tokens_is_refused():
    with pytest.raises(UserError, match="no location tokens"):
        NounPositionLoss(make_tiny(corpus()))
