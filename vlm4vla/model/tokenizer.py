"""A small tokenizer for tiny VLMs: byte-level BPE with the family's own special tokens."""

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = tuple(
    f"{verb} the {colour} {shape}{place}"
    for verb in ("pick up", "push", "reach", "stack", "place", "grasp", "lift", "touch")
    for colour in ("red", "green", "blue", "yellow", "orange", "purple", "white", "black")
    for shape in ("cube", "ball", "cylinder", "block", "plate", "bowl", "zone")
    for place in ("", " on the table", " into the bowl", " next to the cube", " and put it down")
)
"""Sentences for the `:tiny` presets; training brings its own corpus."""


def train_tokenizer(
    corpus: Iterable[str], special: Iterable[str], prompt: str, size: int
) -> Tokenizer:
    """Learns a byte-level BPE vocabulary; every text can be written in it.

    Args:
        corpus: sentences.
        special: tokens kept whole, first in the vocabulary in this order.
        prompt: the family's prompt and question, learned along with the corpus.
        size: largest vocabulary, at least 256 + the special tokens.
    """
    special = list(special)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    for token in special:
        prompt = prompt.replace(token, " ")
    words = prompt.replace("{image}", " ").replace("{text}", "").replace("{instruction}", "")
    tokenizer.train_from_iterator([*corpus, *[words] * 8], trainer)
    return tokenizer
