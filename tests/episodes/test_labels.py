"""Automatic labels beside episodes, and the labels of several people at once."""

import threading
from dataclasses import replace
from pathlib import Path

from tests.episodes.examples import EVALUATION, LIVE, example
from tests.episodes.test_processes import start
from vlm4vla.core.episode import Trace
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.labels import (
    SUCCESS,
    UNLABELLED,
    AutomaticLabel,
    LabelFilter,
    Region,
    count_unlabelled,
    counts,
    density,
    dots,
    every,
    keep,
    newest,
    page,
    shown,
    unlabelled,
)
from vlm4vla.episodes.rebuild import rebuild
from vlm4vla.episodes.rows import Entry, Label
from vlm4vla.episodes.table import EpisodeTable


def filled(folder: Path | None = None) -> EpisodeTable:
    """Nine episodes with labels: seeds 1 to 9, every third a success, of 3 or 4 objects."""
    table = EpisodeTable(folder) if folder else EpisodeTable.in_memory()
    for seed in range(1, 10):
        outcome = "success" if seed % 3 == 0 else "dropped"
        table.put(example(seed, outcome=outcome), [EVALUATION])
    give(table)
    return table


def give(table: EpisodeTable, rules: int = 1) -> None:
    for some in list(unlabelled(table, rules, limit=4)):
        keep(table, rules, [(row, labelled(episode.spec.seed)) for row, episode in some])


def labelled(seed: int) -> AutomaticLabel:
    label = SUCCESS if seed % 3 == 0 else ("dropped", "knocked")[seed % 2]
    finding = {"sentence": f"It was {label}.", "numbers": {"cm": seed}}
    return AutomaticLabel(label, seed, 3 + seed % 2, seed / 100, -seed / 100, finding)


def seeds(table: EpisodeTable, wanted: LabelFilter, **parts) -> list[int]:
    return [one.row.spec.seed for one in page(table, wanted, **parts)]


def test_every_episode_is_given_out_once_newest_first() -> None:
    table = EpisodeTable.in_memory()
    for seed in range(1, 8):
        table.put(example(seed), [EVALUATION])
    pages = [[episode.spec.seed for _, episode in some] for some in unlabelled(table, 1, limit=3)]
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert count_unlabelled(table, 1) == 7
    give(table)
    assert count_unlabelled(table, 1) == 0 and list(unlabelled(table, 1)) == []
    # Other rules begin anew, and replace what was there.
    assert count_unlabelled(table, 2) == 7
    give(table, 2)
    assert count_unlabelled(table, 1) == 7 and len(counts(table)) == len(counts(filled()))


def test_an_episode_that_is_put_again_waits_for_its_label_again() -> None:
    table = filled()
    table.put(example(4, outcome="knocked"), [EVALUATION])
    assert count_unlabelled(table, 1) == 1
    table.drop(example(5).id)
    give(table)
    assert count_unlabelled(table, 1) == 0
    assert sum(one.n for one in counts(table)) == 8


def test_what_is_replaced_while_the_rules_look_at_it_waits_for_its_label_again() -> None:
    table = EpisodeTable.in_memory()
    for seed in range(1, 5):
        table.put(example(seed, outcome="stopped"), [EVALUATION])
    [some] = unlabelled(table, 1)
    # One came to its end, one has other poses, one is gone; one belongs elsewhere and is the same.
    table.put(example(1, outcome="dropped"), [EVALUATION])
    moved = example(2, outcome="stopped")
    table.put(replace(moved, trace=Trace(moved.trace.joints + 0.1, moved.trace.poses)))
    table.drop(example(3).id)
    table.join(example(4).id, LIVE)
    keep(table, 1, [(row, labelled(episode.spec.seed)) for row, episode in some])
    assert [shown(table, example(seed).id) is None for seed in (1, 2, 4)] == [True, True, False]
    assert count_unlabelled(table, 1) == 2
    give(table)
    assert count_unlabelled(table, 1) == 0


def test_what_is_replaced_while_a_list_is_read_is_left_out() -> None:
    table = EpisodeTable.in_memory()
    for seed in range(1, 151):
        table.put(example(seed, outcome="dropped"), [EVALUATION])
    give(table)
    reading = every(table, LabelFilter())
    first = next(reading)
    # Of those that were listed and not read yet, one is gone and one has lost its label.
    table.drop(example(10).id)
    table.put(example(20, outcome="dropped"), [EVALUATION])
    found = [one.row.spec.seed for one in (first, *reading)]
    assert found == [seed for seed in range(150, 0, -1) if seed not in (10, 20)]
    assert shown(table, example(20).id) is None


def test_counts_and_pages_agree_under_every_filter() -> None:
    table = filled()
    for wanted, expected in (
        (LabelFilter(), [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (LabelFilter(failed=True), [8, 7, 5, 4, 2, 1]),
        (LabelFilter(labels=("knocked",)), [7, 5, 1]),
        (LabelFilter(objects=(3,), failed=True), [8, 4, 2]),
        (LabelFilter(region=Region(0.035, 0.06, -0.055, 0.0)), [5, 4]),
        (LabelFilter(Filter(task="reach")), []),
        (LabelFilter(conditions=("{}",)), []),
        (LabelFilter(human=(UNLABELLED,)), [9, 8, 7, 6, 5, 4, 3, 2, 1]),
    ):
        assert seeds(table, wanted) == expected
        assert sum(one.n for one in counts(table, wanted)) == len(expected)
        assert [one.row.spec.seed for one in every(table, wanted)] == expected
    wanted = LabelFilter(failed=True)
    assert seeds(table, wanted, order=("dropped",)) == [8, 4, 2, 7, 5, 1]
    assert seeds(table, wanted, limit=2, offset=4) == [2, 1]


def test_what_is_no_judged_episode_of_its_own_does_not_count() -> None:
    table = filled()
    table.put(example(20, outcome="stopped"), [LIVE])
    table.put(example(21, outcome="not judged"), [LIVE])
    again = replace(example(1, outcome="dropped"), versions={"vlm4vla": "0.2.0"})
    table.put(again, [EVALUATION])
    table.put(example(22, parent=example(1).id, branch_step=3), [EVALUATION])
    give(table)
    # The newer episode of the same request takes the older one's place.
    assert sum(one.n for one in counts(table)) == 9


def test_the_map_shows_where_the_named_objects_lay() -> None:
    table = filled()
    found = dots(table, LabelFilter(failed=True), 2)
    assert [(one.label, one.x, one.y) for one in found] == [
        ("dropped", 0.08, -0.08),
        ("knocked", 0.07, -0.07),
    ]
    squares = density(table, LabelFilter(), 0.05)
    # Seeds 1 to 4 lie in one square of 5 cm, 5 to 9 in the next: 0.05 itself belongs to the upper.
    assert sorted((round(x, 3), n) for x, _, n in squares)[0][0] == 0.025
    assert sum(n for *_, n in squares) == 9


def test_the_newest_evaluation_is_that_of_the_newest_episode() -> None:
    table = filled()
    assert newest(EpisodeTable.in_memory()) is None
    table.put(example(3, agent="feed", words="trained"), [EVALUATION], created=2e9)
    table.put(example(4, agent="beef"), [LIVE], created=3e9)
    wanted = Filter(kind="evaluation")
    assert newest(table, wanted) == ("feed", '{"words":"trained"}')


def test_the_newest_label_of_a_person_is_what_people_say() -> None:
    table = filled()
    key = example(1).id
    table.label(key, "dropped", "ann")
    table.label(key, "knocked", "bob", "at the rim")
    table.label(key, "", "cem", "seen twice")
    found = shown(table, key)
    assert found is not None
    assert [(one.who, one.label) for one in found.people] == [
        ("ann", "dropped"),
        ("bob", "knocked"),
        ("cem", ""),
    ]
    # A note alone is no label.
    assert seeds(table, LabelFilter(human=("knocked",))) == [1]
    assert seeds(table, LabelFilter(human=("dropped",))) == []
    assert found.automatic == labelled(1)


def test_labels_that_come_in_late_are_as_old_as_they_were_given() -> None:
    table = filled()
    one, other = example(1, outcome="dropped"), example(2, outcome="dropped")
    table.label(one.id, "held on", "ann", created=200.0)
    table.label(other.id, "knocked", "ann", created=300.0)
    # Somebody's export holds what was said before; of what was said at once the later line counts.
    older = (Label("dropped", "ann", "", 100.0), Label("knocked", "bob", "", 150.0))
    table.put_new([Entry(one, labels=older), Entry(other, labels=older)])
    table.label(other.id, "dropped", "bob", created=300.0)
    found = shown(table, one.id)
    assert found is not None
    assert [said.created for said in found.people] == [100.0, 150.0, 200.0]
    assert [said.label for said in table.labels(one.id)] == ["knocked", "held on"]
    for label, expected in (("held on", [1]), ("dropped", [2]), ("knocked", [])):
        assert seeds(table, LabelFilter(human=(label,))) == expected


def test_an_episode_that_no_rule_has_seen_has_nothing_to_show() -> None:
    table = EpisodeTable.in_memory()
    table.put(example(1), [EVALUATION])
    assert shown(table, example(1).id) is None


LABELLER = """
import sys
from pathlib import Path
from tests.episodes.examples import example
from vlm4vla.episodes.table import EpisodeTable
table = EpisodeTable(Path(sys.argv[1]), log=Path(sys.argv[2]))
for number in range(25):
    table.label(example(1 + number % 3).id, "dropped", sys.argv[3], f"note {number}")
"""


def test_two_processes_and_two_threads_that_label_at_once_lose_nothing(tmp_path: Path) -> None:
    folder, log = tmp_path / "table", tmp_path / "log.jsonl"
    table = EpisodeTable(folder, log=log)
    for seed in range(1, 4):
        table.put(example(seed), [EVALUATION])
    running = [start(LABELLER, folder, log, who) for who in ("ann", "bob")]
    threads = [
        threading.Thread(
            target=lambda who=who: [
                table.label(example(1 + n % 3).id, "knocked", who, f"note {n}") for n in range(25)
            ]
        )
        for who in ("cem", "dee")
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    for one in running:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors

    def said(of: EpisodeTable) -> set[tuple[str, str]]:
        return {
            (one.who, one.note)
            for seed in range(1, 4)
            for one in of.labels(example(seed).id, all_of_them=True)
        }

    expected = {(who, f"note {n}") for who in ("ann", "bob", "cem", "dee") for n in range(25)}
    assert said(table) == expected
    # The log alone gives all of them back.
    table.close()
    for file in folder.iterdir():
        file.unlink()
    again = EpisodeTable(folder, log=log)
    rebuild(again)
    assert said(again) == expected


def test_damaged_arrays_come_without_them() -> None:
    table = filled()
    with table.database.writing() as db:
        db.execute("UPDATE arrays SET content = x'0200'")
        db.execute("DELETE FROM automatic_labels")
    [some] = unlabelled(table, 1)
    assert len(some) == 9 and all(not len(episode.actions) for _, episode in some)
