"""A VLM under another tokenizer: words that it knew keep their embeddings."""

import torch
from tokenizers import Tokenizer

from vlm4vla.errors import UserError
from vlm4vla.model.source import quiet
from vlm4vla.model.vlm import BUILDING, Vlm


def take_words(vlm: Vlm, tokenizer: Tokenizer) -> None:
    """Exchanges a VLM's tokenizer, in place.

    A token that both have keeps its embedding. Another one gets the mean embedding of the pieces
    that the VLM spelt it with until now, so that it begins near to what it meant.

    Args:
        vlm: the VLM; a policy that it belongs to stays whole.
        tokenizer: what it shall read with, of the same family.

    Raises:
        UserError: a special token has another number in it or none, so that the model's config
            would name another token, or action tokens would be lost.
    """
    before = vlm.tokenizer
    for old, added in before.get_added_tokens_decoder().items():
        new = tokenizer.token_to_id(added.content)
        # The config names those of the family by their numbers.
        lost = old != new if added.content in vlm.family.special else new is None
        if added.special and lost:
            raise UserError(
                f"The token {added.content!r} has the number {old} in {vlm.source} and "
                f"{'none' if new is None else new} in the new tokenizer.",
                "Take the words of a VLM of the same family that was made in the same way.",
            )
    known = vlm.words.detach().clone()
    size = tokenizer.get_vocab_size()
    with BUILDING, quiet(), torch.random.fork_rng(devices=[]):
        vlm.base.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for token, number in tokenizer.get_vocab().items():
            kept = before.token_to_id(token)
            pieces = [kept] if kept is not None else _spelt(before, tokenizer.decode([number]))
            vlm.words[number] = known[pieces].mean(0)
    vlm.tokenizer = tokenizer


def _spelt(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text, without what a tokenizer puts around it."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)
