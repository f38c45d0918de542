import vlm4vla.model.families  # noqa: F401  (registers them)
from vlm4vla.language.corpus import corpus
from vlm4vla.language.kinds import all_words
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.tokenizer import train_tokenizer


def test_every_word_is_one_or_two_tokens_at_the_tiny_vocabulary():
    family = FAMILIES.get("qwen3-vl")
    prompt = f"{family.prompt} {family.question}"
    tokenizer = train_tokenizer(corpus(), family.special, prompt, 1024)
    assert tokenizer.get_vocab_size() <= 1024
    for word in all_words():
        # As it stands inside a sentence, and at the start of one.
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) <= 2, word
        assert len(tokenizer.encode(word, add_special_tokens=False).ids) <= 2, word


def test_the_corpus_is_the_same_every_time_and_holds_every_word():
    lines = list(corpus())
    assert lines == list(corpus())
    assert {word for line in lines for word in line.split()} >= all_words()
