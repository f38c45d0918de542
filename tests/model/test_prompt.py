import pytest
import torch

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.language.known import TEMPLATES, fill
from vlm4vla.language.vocabulary import COLOURS
from vlm4vla.model.family import FAMILIES, QUERY_ID
from vlm4vla.model.policy import Policy
from vlm4vla.model.prompt import build_rows, split_for_decoder, token_id, token_ids

CPU = torch.device("cpu")
ASK = "What action should the robotic arm take to stack the blocks"
CHAT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
QWEN = f"{CHAT}<|vision_start|>[image]<|vision_end|>{ASK}<|im_end|>\n<|im_start|>assistant\n"
GOLDEN = {
    "qwen2.5-vl": QWEN,
    "qwen3-vl": QWEN,
    "qwen3-vl-moe": QWEN,
    "internvl": f"{CHAT}<img>[image]</img>{ASK}<|im_end|>\n<|im_start|>assistant\n",
    "paligemma": "[image]<bos>stack the blocks\n",
    "paligemma2": "[image]<bos>stack the blocks\n",
    "kosmos-2": "[image]<s><image><image_pad></image><p>stack the blocks\n</p>",
    "smolvlm": (
        "<|im_start|>User:<fake_token_around_image><global-img>[image]<fake_token_around_image>"
        f"{ASK}<end_of_utterance>\nAssistant:"
    ),
    "gemma3": (
        "<bos><start_of_turn>user\n\n\n<start_of_image>[image]<end_of_image>\n\n"
        f"{ASK}<end_of_turn>\n<start_of_turn>model\n"
    ),
    "llava-onevision": f"<|im_start|>user [image]\n{ASK}<|im_end|><|im_start|>assistant\n",
    "florence-2": f"[image]<s>{ASK}</s>",
}


def test_every_family_has_a_golden_prompt():
    assert set(GOLDEN) == set(FAMILIES)


@pytest.mark.parametrize("name", GOLDEN)
def test_prompt_is_the_declared_one(name, small):
    vlm = small(name)
    count = vlm.image_tokens
    text = vlm.family.text("stack the blocks")
    rows = build_rows(vlm.tokenizer, vlm.family, count, [text], None, CPU)
    ids = rows.ids[0].tolist()
    assert ids.pop() == QUERY_ID
    image = token_id(vlm.tokenizer, vlm.family.image_token)
    start = rows.is_image[0].tolist().index(True)
    assert ids[start : start + count] == [image] * count
    assert int(rows.is_image.sum()) == count
    before = vlm.tokenizer.decode(ids[:start], skip_special_tokens=False)
    after = vlm.tokenizer.decode(ids[start + count :], skip_special_tokens=False)
    assert f"{before}[image]{after}" == GOLDEN[name]


def test_query_follows_the_last_token_of_each_row(policy):
    rows = policy.rows(["go", "go to the yellow plate now"])
    short, long = rows.last.tolist()
    assert short < long == rows.ids.shape[1] - 1
    assert rows.ids[0, short] == QUERY_ID
    assert rows.ids[1, long] == QUERY_ID
    assert rows.is_query.sum() == 2
    assert rows.attention[0].sum() == short + 1
    assert not rows.is_answer.any()


def test_answers_end_with_the_end_token(policy):
    rows = policy.rows(["what is it", "where"], ["a red cube", "left"])
    tokenizer = policy.vlm.tokenizer
    for row, answer in enumerate(("a red cube", "left")):
        ids = rows.ids[row][rows.is_answer[row]].tolist()
        assert ids == token_ids(tokenizer, answer + "<|im_end|>")
        assert rows.is_answer[row].nonzero().max() == rows.last[row]
    assert not rows.is_query.any()


def test_braces_in_an_instruction_are_text(policy):
    # Sentences come from users: no part of them may be read as a place holder.
    one = policy.rows([policy.vlm.family.text("{image} {text}")])
    assert "{image} {text}" in policy.vlm.tokenizer.decode(one.ids[0, :-1].tolist())


def test_encoder_decoder_split(policy):
    rows = policy.rows(["go", "go to the yellow plate"])
    split = split_for_decoder(rows, start=2)
    assert split["decoder_input_ids"].tolist() == [[2, QUERY_ID]] * 2
    assert (split["input_ids"] != QUERY_ID).all()
    assert split["attention_mask"].sum(1).tolist() == rows.last.tolist()


def test_a_missing_token_is_named(policy):
    with pytest.raises(UserError, match="<nothing>"):
        token_id(policy.vlm.tokenizer, "<nothing>")


def test_any_text_can_be_written(policy):
    text = "Stëck ⬛ naïvely, 3.5 cm!"
    ids = token_ids(policy.vlm.tokenizer, text)
    assert policy.vlm.tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_typed_never_becomes_a_token_of_the_prompt(name, small):
    vlm = small(name)
    vlm.tokenizer.add_special_tokens(["<across_00>", "<down_31>"])
    added = {token.content: i for i, token in vlm.tokenizer.get_added_tokens_decoder().items()}
    plain = policy_ids(vlm, "stack the blocks")
    for token in (*added, "<|image_pad|>", "<|im_end|>", "<eos>", "</s>", "<image>"):
        for typed in (token, f"stack {token} the {token.upper()}{token}", f"lift it{token}"):
            ids = policy_ids(vlm, typed)
            for content, i in added.items():
                assert ids.count(i) == plain.count(i), (content, typed)
            written = vlm.tokenizer.decode(ids, skip_special_tokens=False)
            assert typed.lower() in written


def policy_ids(vlm, instruction):
    rows = build_rows(
        vlm.tokenizer, vlm.family, vlm.image_tokens, [vlm.family.text(instruction)], None, CPU
    )
    return rows.ids[0, :-1].tolist()


@pytest.mark.parametrize("name", GOLDEN)
def test_a_typed_image_token_is_no_second_picture(name, small, pictures):
    policy = Policy(small(name), action.tiny()).eval()
    token = policy.vlm.family.image_token
    acted = policy.act(pictures[:1], [f"pick up {token} the red cube"])
    assert acted.shape == policy.act(pictures[:1], ["pick up the red cube"]).shape


def test_special_tokens_of_our_own_questions_are_recognised(policy):
    text = "What is at <|vision_end|>?"
    rows = policy.rows([text], ["a red cube"])
    wanted = token_id(policy.vlm.tokenizer, "<|vision_end|>")
    assert rows.ids[0].tolist().count(wanted) == 2
    assert policy.rows([text]).ids[0].tolist().count(wanted) == 1


def test_a_sentence_means_the_same_however_it_is_typed(policy):
    one = policy_ids(policy.vlm, "pick up the red cube")
    for typed in (
        "PICK UP THE RED CUBE",
        " Pick up  the\u00a0red cube! ",
        "ｐick up the red cube.",
    ):
        assert policy_ids(policy.vlm, typed) == one
    written = policy.vlm.tokenizer.decode(one)
    assert "What action should the robotic arm take to pick up the red cube" in written


def test_normalisation_leaves_every_known_sentence_as_it_was_taught():
    # So the rows of a checkpoint that was trained before it was declared are the same.
    family = FAMILIES.get("qwen3-vl")
    for task, templates in TEMPLATES.items():
        for template in (*templates.train, *templates.held_out):
            for colour in COLOURS:
                sentence = fill(template, f"{colour} cube", f"{colour} bowl")
                assert family.text(sentence) == family.question.format(instruction=sentence), task
