"""The matrix, its sentences and the curves from rows whose counts are known."""

from dataclasses import replace

import pytest

from tests.episodes.examples import EVALUATION, LIVE, example
from vlm4vla.ablation.curves import curves
from vlm4vla.ablation.matrix import (
    PICTURE_ROWS,
    SENTENCE_COLUMNS,
    STUDY,
    condition_of,
    matrix,
    telling,
)
from vlm4vla.ablation.registry import perturbation
from vlm4vla.ablation.summary import floor_of, losses, summary
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, AgentSpan, Outcome
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.table import EpisodeTable

AGENT = "bed03166840b0dc4"

TAKEN_OVER = (AgentSpan(AgentId("policy", AGENT)), AgentSpan(AgentId("expert", "expert"), 5))


def put(table, condition, seeds, successes, *, told=0, membership=STUDY, **changes):
    """Episodes of the first of which some succeed; `told` of them do the other goal."""
    for place, seed in enumerate(seeds):
        episode = example(seed, **changes)
        kind = "success" if place < successes else "dropped"
        measures = {"wrong_object": place % 2 == 0}
        if condition.watches:
            measures["old_goal_done"] = place < told
        table.put(
            replace(
                episode,
                spec=replace(episode.spec, condition=condition),
                outcome=Outcome(kind, kind, measures),
            ),
            [membership],
        )


@pytest.fixture
def table():
    made = EpisodeTable.in_memory()
    # 40 intact scenes, of which the study has the first 20.
    put(made, Condition(), range(40), 30, membership=EVALUATION)
    empty, other = SENTENCE_COLUMNS[1], SENTENCE_COLUMNS[2]
    put(made, condition_of(empty), range(20), 4)
    put(made, condition_of(other), range(20), 1, told=18)
    put(made, condition_of(PICTURE_ROWS[1]), range(20), 19)
    put(made, condition_of(PICTURE_ROWS[1], empty), range(20), 2)
    # None of these belongs to the matrix.
    put(made, replace(condition_of(empty), words="trained"), range(20), 20)
    put(made, condition_of(perturbation("sentence-empty", first_step=3)), range(20), 20)
    put(made, condition_of(PICTURE_ROWS[2]), range(100_000, 100_005), 5)
    put(made, condition_of(empty), range(20, 25), 5, parent="53dadbc563193551", branch_step=3)
    put(made, condition_of(empty), range(25, 30), 5, agents=TAKEN_OVER)
    put(made, condition_of(empty), range(30, 35), 5, membership=Membership("imported", "old"))
    return made


def test_cells_count_the_shared_scenes(table):
    cells = matrix(table, AGENT, ["pick"])
    counts = [[(c.rate.successes, c.rate.n) for c in row] for row in cells]
    assert counts == [
        [(20, 20), (4, 20), (1, 20), (0, 0)],
        [(19, 20), (2, 20), (0, 0), (0, 0)],
        [(0, 0)] * 4,
        [(0, 0)] * 4,
    ]
    assert cells[0][2].other_goal.successes == 18
    assert cells[0][1].other_goal is None
    assert cells[0][1].wrong_object.successes == 10
    assert [row.spec.seed for row in cells[0][1].rows] == list(range(20))
    assert matrix(table, AGENT, ["push"])[0][0].rate.n == 0
    assert matrix(table, AGENT, ["pick"], range(5))[0][0].rate.n == 5


def test_cells_are_paired_with_the_intact_one_and_adjusted(table):
    cells = matrix(table, AGENT, ["pick"])
    assert cells[0][0].paired is None and cells[0][0].p is None
    assert cells[0][1].paired.difference == pytest.approx(-16 / 20)
    # Exact McNemar by hand: 16, 19, 1 and 18 scenes differ, all one way, so p is 2 / 2^k; Holm
    # multiplies the smallest of four by 4, the next by 3, and so on.
    assert cells[0][2].p == pytest.approx(4 * 2 / 2**19)
    assert cells[1][1].p == pytest.approx(3 * 2 / 2**18)
    assert cells[0][1].p == pytest.approx(2 * 2 / 2**16)
    assert cells[1][0].p == 1.0


def test_the_sentence_claims_what_the_scenes_tell(table):
    cells = matrix(table, AGENT, ["pick"])
    text = summary(cells)
    assert "Without the sentence it falls from 100 to 20 %: it reads it." in text
    assert "With a blank picture it goes from 100 to 95 %: these scenes cannot tell" in text
    assert "in 18 of 20 scenes and what the scene's own sentence asks for in 1" in text
    assert "it follows the sentence" in text
    assert "With neither, 10 % is left" in text
    assert floor_of(cells) is cells[1][1]


def test_a_claim_is_of_the_scenes_that_it_compares():
    made = EpisodeTable.in_memory()
    # The intact policy does scenes 50 to 99. A blank picture was tried in 50 to 69 alone: of these
    # it does 50 to 59, where the intact one does all.
    put(made, Condition(), [*range(50, 100), *range(50)], 50)
    put(made, condition_of(SENTENCE_COLUMNS[1]), range(99, -1, -1), 10)
    put(made, condition_of(PICTURE_ROWS[1]), range(50, 70), 10)
    # Here the intact one was not tried at all.
    put(made, condition_of(SENTENCE_COLUMNS[3]), range(200, 210), 3)
    cells = matrix(made, AGENT, ["pick"])
    assert [(one.successes, one.n) for one in cells[1][0].shared] == [(20, 20), (10, 20)]
    assert cells[0][0].shared is None
    assert summary(cells) == (
        "Without the sentence it falls from 50 to 10 %: it reads it. "
        "With a blank picture it falls from 100 to 50 %: it looks. "
        "With the words in another order it does 30 %, of scenes that the intact policy was not "
        "given: these cannot tell whether it needs it."
    )


def test_nothing_is_said_of_nothing():
    empty = EpisodeTable.in_memory()
    assert summary(matrix(empty, AGENT, ["pick"])) == ""
    put(empty, Condition(), range(3), 3, membership=LIVE)
    assert summary(matrix(empty, AGENT, ["pick"])) == ""


def test_a_curve_goes_through_the_intact_policy_and_every_strength(table):
    assert curves(table, AGENT, ["pick"]) == {}
    for sigma, wins in ((4.0, 3), (2.0, 7)):
        put(table, condition_of(perturbation("picture-blur", {"sigma": sigma})), range(10), wins)
    late = perturbation("picture-blur", {"sigma": 9.0}, first_step=4)
    put(table, condition_of(late), range(10), 10)
    found = curves(table, AGENT, ["pick"])
    points = [(p.value, p.cell.rate.successes, p.cell.rate.n) for p in found["picture-blur"]]
    assert points == [(0.0, 10, 10), (2.0, 7, 10), (4.0, 3, 10)]
    assert list(found) == ["picture-blur"]


def test_the_scene_that_tells_most_is_one_that_the_condition_spoils(table):
    cells = matrix(table, AGENT, ["pick"])
    intact = cells[0][0]
    # Of scenes 0 to 19 the intact policy does all, and the blank picture all but the last.
    assert telling(cells[1][0], intact).spec.seed == 19
    assert telling(cells[1][0], intact).spec.condition == Condition()
    assert telling(cells[0][1], intact).spec.seed == 4
    # Where nothing was run or nothing differs: the first.
    assert telling(cells[3][3], intact).spec.seed == 0
    assert telling(intact, intact).spec.seed == 0
    assert telling(cells[3][3], cells[3][2]) is None


def test_losses_are_told_where_the_adjusted_test_tells_them(table):
    (intact, empty, other, _), (blank, *_), *_ = matrix(table, AGENT, ["pick"])
    named = [("nothing", intact), ("no sentence", empty), ("another", other), ("blank", blank)]
    assert losses(named) == (
        "These scenes tell a difference for no sentence (-80 points), another (-95 points). "
        "These scenes tell no difference for blank."
    )
    assert losses(named[:1]) == ""
