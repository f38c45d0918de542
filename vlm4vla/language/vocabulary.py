"""The lexicon: canonical colours and kinds, and the words that people use for them.

A word marked as held out is never in a training sentence; the tokenizer knows it, so that what is
measured with it is what the pretrained VLM knows of it, not how it is spelled.
"""

from dataclasses import dataclass
from typing import Final

COLOURS: Final = ("red", "green", "blue", "yellow", "purple", "orange")
MOVABLE: Final = ("cube", "ball", "cylinder")
FIXED: Final = ("zone", "plate", "bowl")
KINDS: Final = MOVABLE + FIXED


@dataclass(frozen=True)
class Word:
    """A word for a colour or a kind.

    Attributes:
        text: as it is written.
        senses: every canonical word that it can stand for; with more than one the scene decides.
        held_out: whether training never sees it.
    """

    text: str
    senses: tuple[str, ...]
    held_out: bool = False

    @property
    def canonical(self) -> bool:
        """Whether it is the word of the known sentences."""
        return self.senses == (self.text,)


def _words(table: dict[str, str]) -> tuple[Word, ...]:
    """Words from "sense: word ~held-out-word", a word of several senses once for each."""
    senses: dict[str, list[str]] = {}
    for sense, words in table.items():
        for word in words.split():
            senses.setdefault(word, []).append(sense)
    return tuple(
        Word(text.lstrip("~"), tuple(found), text.startswith("~")) for text, found in senses.items()
    )


def _unseen(words: str) -> tuple[Word, ...]:
    """Words that stand for themselves."""
    return tuple(Word(text, (text,)) for text in words.split())


COLOUR_WORDS: Final = _words(
    {
        "red": "red crimson scarlet ~ruby",
        "green": "green lime emerald ~jade",
        "blue": "blue navy azure ~cobalt",
        "yellow": "yellow golden gold ~lemon amber",
        "purple": "purple violet ~plum",
        "orange": "orange tangerine ~pumpkin amber",
    }
)
KIND_WORDS: Final = _words(
    {
        "cube": "cube block box ~brick",
        "ball": "ball sphere ~orb",
        "cylinder": "cylinder can tube ~tin",
        "zone": "zone area square region ~patch",
        "plate": "plate disc saucer ~platter dish",
        "bowl": "bowl basin ~vessel dish",
    }
)
"""A dish is a plate or a bowl, amber is yellow or orange: they are read and never written."""

ELSEWHERE_COLOURS: Final = _unseen(
    "black white grey gray brown pink magenta cyan turquoise teal beige silver"
)
ELSEWHERE_KINDS: Final = _unseen(
    "cone pyramid star moon heart pentagon hexagon triangle ring"
    " cup mug glass bottle jar pot pan lid tray basket bin bag drawer cabinet shelf door sink"
    " stove microwave fridge faucet burner lamp switch button handle lever"
    " spoon fork knife spatula ladle brush sponge towel cloth napkin"
    " apple banana carrot pear peach strawberry eggplant corn pepper mushroom potato"
    " bread cheese sushi soup sauce ketchup butter cookie"
    " book pen pencil marker phone remote hammer toy doll rope key chair"
)
"""Colours and kinds that no scene holds: a sentence about them is understood, and what it asks for
is not here. They are never written, and never said to be anything that is here."""

GENERIC_WORDS: Final = (*_unseen("one object thing item"), Word("piece", ("piece",), held_out=True))
"""Words for a thing whose kind is not said."""


def words_for(canonical: str) -> tuple[Word, ...]:
    """The words that stand for one colour or kind and nothing else."""
    return tuple(word for word in COLOUR_WORDS + KIND_WORDS if word.senses == (canonical,))
