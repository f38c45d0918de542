"""The check of automatic labels: a sample of failures, labelled by a person who saw no label."""

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vlm4vla.episodes.labels import LabelFilter, Shown, every, shown
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.failures import RULES, RULES_VERSION
from vlm4vla.eval.labelling import OTHER
from vlm4vla.files import replacing
from vlm4vla.statistics import Kappa, cohens_kappa

SHIPPED: Final = Path(__file__).parents[2] / "assets" / "results" / "labels-kappa.json"
"""The check that comes with the project."""

KEY: Final = "key.json"
BLANK: Final = "labels-blank.csv"
GUIDE: Final = "README.txt"
SHEETS: Final = "sheets"
"""What is written into the folder of a check: which sheet is which episode, the empty labels, what
to do, and the sheets."""

COLUMNS: Final = ("sheet", "label", "note")

IN_PLAIN_WORDS: Final[Mapping[str, str]] = {
    "wrong object": "It went for an object other than the one it was asked about.",
    "let go beside": "It carried the right object to about the right place, and let go of it so "
    "that it did not stay there.",
    "dropped": "It had the right object in the air and lost it, not near the place where it "
    "should go.",
    "knocked": "It knocked something over, or pushed something out of its way that should have "
    "stayed where it was.",
    "missed grasp": "It came to the right object to pick it up, and did not get it up in its "
    "fingers.",
    "misplaced": "It moved the right object and left it somewhere else than it should be.",
    "held on": "It should have put the right object down, and still had it in its fingers at the "
    "end.",
    "oscillated": "The hand kept going back and forth and got nowhere.",
    "never reached": "The hand never touched the right object.",
    "timed out": "The time was up, and nothing in particular had gone wrong.",
    OTHER: "Something went wrong that none of these words describe.",
}
"""What a label means to somebody who has not read its rule."""


@dataclass(frozen=True)
class LabelCheck:
    """What came of a check.

    Attributes:
        command: that made it.
        date: when the labels were compared, YYYY-MM-DD.
        who: who labelled, in a few words.
        rules: version of the rules.
        seed: of the sample.
        drawn_from: how many failures it was drawn from.
        labels: of each episode its id, the automatic label and the person's.
    """

    command: str
    date: str
    who: str
    rules: int
    seed: int
    drawn_from: int
    labels: tuple[tuple[str, str, str], ...]

    @property
    def kappa(self) -> Kappa:
        """Agreement of rules and person."""
        return cohens_kappa([(automatic, said) for _, automatic, said in self.labels])

    def confusion(self) -> list[tuple[str, str, int]]:
        """How often the rules gave the first label and the person the second, by the first.

        Labels come in the order of the rules; pairs that never occurred are left out.
        """
        found = Counter((automatic, said) for _, automatic, said in self.labels)
        names = (*RULES, OTHER)
        return [(a, b, found[a, b]) for a in names for b in names if found[a, b]]

    @property
    def outdated(self) -> bool:
        """Whether the rules have changed since."""
        return self.rules != RULES_VERSION


def draw(table: EpisodeTable, wanted: LabelFilter, number: int, seed: int) -> list[Shown]:
    """Draws failures by systematic sampling, in an order that tells nothing.

    From the list ordered by label, task and agent, and at random within these, every k-th is taken:
    each label, task and agent has the share of the sample that it has of the failures.

    Args:
        table: where they are, with their automatic labels.
        wanted: among which.
        number: how many are drawn.
        seed: of the chance.

    Raises:
        UserError: there are not so many.
    """
    chance = random.Random(seed)
    failures = [one for one in every(table, wanted) if one.automatic.label in RULES]
    if not 0 < number <= len(failures):
        raise UserError(
            f"{number} of {len(failures)} failures cannot be drawn.",
            "Choose from more (--agent all --condition all), or ask for fewer (--number).",
        )
    # The table's order may differ on another machine.
    failures.sort(key=lambda one: one.row.id)
    chance.shuffle(failures)
    failures.sort(key=lambda one: (one.automatic.label, one.row.goal_task, one.row.agent.digest))
    step = len(failures) / number
    start = chance.random() * step
    drawn = [failures[int(start + place * step)] for place in range(number)]
    chance.shuffle(drawn)
    return drawn


def sheet_name(place: int) -> str:
    """What the sheet of a drawn episode is called, from 0 on."""
    return f"{place + 1:03}"


def prepare(folder: Path, ids: Sequence[str], *, seed: int, drawn_from: int) -> None:
    """Writes all of a check's folder but its sheets; labels that somebody filled in stay.

    Args:
        folder: where.
        ids: the drawn episodes.
        seed: of the sample.
        drawn_from: how many failures it was drawn from.

    Raises:
        UserError: the folder holds another sample, or the disk is full or not writable.
    """
    sheets = {sheet_name(place): key for place, key in enumerate(ids)}
    key = {"seed": seed, "drawn_from": drawn_from, "sheets": sheets}
    if (folder / KEY).exists() and _key(folder / KEY) != key:
        raise UserError(f"{folder} holds the sheets of another sample.", "Give another folder.")
    blank = io.StringIO()
    writer = csv.writer(blank, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((name, "", "") for name in sheets)
    _write(folder / KEY, json.dumps(key, indent=1) + "\n")
    if not (folder / BLANK).exists():
        _write(folder / BLANK, blank.getvalue())
    _write(folder / GUIDE, guide())


def guide() -> str:
    """What the person who labels is told: the labels in plain words, and no rule."""
    kinds = "\n".join(f"  {name}: {words}" for name, words in IN_PLAIN_WORDS.items())
    return f"""\
Each picture in {SHEETS}/ shows one attempt of a robot arm to do what the sentence above it asks.
Read the frames from left to right and from top to bottom; each says at which step it was taken.
The white line is the way of the finger tips since the frame before, the ring is where they are.
The second line says which object the sentence is about, and where that should go if it says so.
Every one of these attempts failed. Please say of each what went wrong FIRST.

The answers, one word or two, exactly as written before the colon:

{kinds}

If two of them fit, choose what happened earlier. If you cannot tell, choose what is most likely.
Fill the column "label" of {BLANK}, one line a picture; "note" may stay empty. Work from the
pictures alone: please do not open {KEY}, and do not look the attempts up elsewhere.
"""


def compare(table: EpisodeTable, filled: Path, who: str, command: str, date: str) -> LabelCheck:
    """Compares a person's labels with the automatic ones.

    Args:
        table: where the episodes are, with their automatic labels.
        filled: CSV of `COLUMNS`, in the folder of its check; lines without a label are left out.
        who: who labelled, in a few words.
        command: that does this.
        date: YYYY-MM-DD.

    Raises:
        UserError: the file or its key is missing or damaged, a label is not one, a sheet is
            unknown or stands there twice, or an episode is not in the table.
    """
    key = _key(filled.parent / KEY)
    known = (*RULES, OTHER)
    said: dict[str, str] = {}
    for line in _lines(filled):
        sheet, label = line["sheet"].strip().zfill(3), line["label"].strip().lower()
        if not label:
            continue
        if sheet not in key["sheets"] or sheet in said:
            raise UserError(
                f"{filled.name}: sheet {sheet} is {'twice there' if sheet in said else 'unknown'}.",
                f"Give each sheet of {BLANK} one line.",
            )
        if label not in known:
            raise UserError(
                f"{filled.name}: unknown label {label!r} of sheet {sheet}.",
                f"Known are: {', '.join(known)}.",
            )
        said[sheet] = label
    if not said:
        raise UserError(f"{filled.name} has no label.", "Fill its column 'label'.")
    found = []
    for sheet, label in sorted(said.items()):
        one = shown(table, key["sheets"][sheet])
        if one is None:
            raise UserError(f"The episode of sheet {sheet} has no automatic label.")
        found.append((one.row.id, one.automatic.label, label))
    return LabelCheck(
        command, date, who, RULES_VERSION, key["seed"], key["drawn_from"], tuple(found)
    )


def write_check(path: Path, check: LabelCheck) -> None:
    """Keeps a check as JSON.

    Raises:
        UserError: the disk is full or not writable.
    """
    lines = ",\n  ".join(json.dumps(one) for one in check.labels)
    plain = {name: value for name, value in vars(check).items() if name != "labels"}
    _write(path, f'{json.dumps(plain, indent=1)[:-2]},\n "labels": [\n  {lines}\n ]\n}}\n')


def read_check(path: Path = SHIPPED) -> LabelCheck | None:
    """A check that was kept; None where there is none.

    Raises:
        UserError: the file is damaged.
    """
    try:
        plain = json.loads(path.read_text("utf-8"))
        labels = tuple((str(a), str(b), str(c)) for a, b, c in plain.pop("labels"))
        return LabelCheck(**plain, labels=labels)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path.name} is no check of labels.", "Make it again: `vlm4vla failures --check`."
        ) from error


def _key(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text("utf-8"))
        return {name: plain[name] for name in ("seed", "drawn_from", "sheets")}
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: it tells which sheet is which episode.",
            "Put the labels into the folder that `vlm4vla failures --sheets` wrote.",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged.", "Write the sheets again.") from error


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        # A spreadsheet begins its files with a mark of the encoding.
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read.", "Give the CSV of the labels.") from error
    if not lines or any(line.get(name) is None for line in lines for name in COLUMNS[:2]):
        raise UserError(f"{path.name} has no columns 'sheet' and 'label'.", f"Fill {BLANK}.")
    return lines


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
