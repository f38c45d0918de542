"""Lists the English words that could be taken for a slip of one of the language's words.

Needs `pip install english-words pyspellchecker`; run it when the language gets a word:
`python -m benchmarks.real_words`.
"""

import importlib
from pathlib import Path

from rapidfuzz.distance import OSA

from vlm4vla.files import write_json
from vlm4vla.language.kinds import read_words

OUT = Path("vlm4vla/language/real_words.json")
COMMON = 50
"""A word that subtitles hold so often is a word, whatever dictionaries say."""


def english() -> set[str]:
    """Words that two dictionaries hold, or that are common in subtitles."""
    words = importlib.import_module("english_words").get_english_words_set
    counts = importlib.import_module("spellchecker").SpellChecker().word_frequency
    web, gcide = (words([name], lower=True, alpha=True) for name in ("web2", "gcide"))
    return set(web & gcide) | {word for word in counts.words() if counts[word] >= COMMON}


def main() -> None:
    language, dictionary = read_words(), english()
    found: set[str] = set()
    for word in language:
        most = 2 if len(word) >= 8 else 1
        for other in dictionary:
            if len(word) <= 3:
                near = sorted(word) == sorted(other)
            else:
                near = OSA.distance(word, other, score_cutoff=most) <= most
            if near and other not in language:
                found.add(other)
    write_json(OUT, {"for": sorted(language), "words": sorted(found)})
    print(f"{len(found)} English words near {len(language)} of the language")


if __name__ == "__main__":
    main()
