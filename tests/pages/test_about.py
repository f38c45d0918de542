"""The About page: what was measured, on a table made by hand."""

from typing import Any

from pages.about import measured_html
from pages.services import Services
from tests.episodes.examples import EVALUATION, example
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.rows import Entry
from vlm4vla.episodes.table import EpisodeTable

DIGEST = "0123456789abcdef"


class Catalogue(AgentCatalogue):
    """One checkpoint, evaluated on these sentences."""

    def __init__(self, sentences: str) -> None:
        super().__init__(roots=())
        self.sentences = sentences

    def names(self) -> list[str]:
        return ["small"]

    def evaluation(self, name: str) -> dict[str, Any]:
        tasks = {"reach": {"successes": 9, "n": 10}, "pick": {"successes": 7, "n": 10}}
        return {"checkpoint": DIGEST, "tasks": tasks, "sentences": self.sentences}


def test_broad_sentences_stand_beside_known_ones_with_intervals_as_bars() -> None:
    table = EpisodeTable.in_memory()
    for seed in range(10):
        outcome = "success" if seed < 2 else "dropped"
        one = example(seed, steps=2, agent=DIGEST, words="broad", outcome=outcome)
        # The same scenes with known sentences do not count here.
        other = example(seed, steps=2, agent=DIGEST, words="known")
        table.put_all([Entry(one, (EVALUATION,)), Entry(other, (EVALUATION,))])
    archive = Archive(table, Films(table))
    services = Services(None, Catalogue("held out"), archive, archive)  # type: ignore[arg-type]
    told = measured_html(services)
    rows = [row.partition("</tr>")[0] for row in told.split("<tr>")]
    (everything,), (reach,), (pick,) = (
        [row for row in rows if f'"row">{name}<' in row] for name in ("all", "reach", "pick")
    )
    # Wilson by hand: 16 of 20 is 58.4 to 91.9 %, 7 of 10 39.7 to 89.2 %, 2 of 10 5.7 to 51.0 %.
    assert "16 of 20 <small>(58 to 92 %)" in everything
    assert "7 of 10 <small>(40 to 89 %)" in pick
    assert "2 of 10 <small>(6 to 51 %)" in pick
    assert 'style="left:5.7%;width:45.3%"' in pick
    assert "2 of 10" in everything
    assert "not measured" in reach


def test_an_evaluation_on_other_sentences_is_not_shown_as_one_on_known_ones() -> None:
    table = EpisodeTable.in_memory()
    archive = Archive(table, Films(table))
    services = Services(None, Catalogue("broad"), archive, archive)  # type: ignore[arg-type]
    assert "No checkpoint here has been evaluated yet" in measured_html(services)
