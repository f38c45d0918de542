from dataclasses import replace

from tests.episodes.examples import EVALUATION, example
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.studies.registry import STUDIES
from vlm4vla.studies.status import done, episodes_of, membership

CELL = STUDIES["modules"].members[0].cell


def test_a_cell_stays_whole_whatever_else_is_made_of_its_scenes() -> None:
    table = EpisodeTable.in_memory()
    whole = [
        example(seed, steps=2, task=task, versions={"torch": "1"})
        for task in CELL.tasks
        for seed in CELL.scenes.seeds
    ]
    for one in whole:
        table.put(one, [membership(CELL)], created=1.0)
    assert done(table, CELL)
    # The same requests by other versions, outside of the study.
    for one in whole[:3]:
        table.put(replace(one, versions={"torch": "2"}), [EVALUATION], created=2.0)
    assert done(table, CELL)
    rows = episodes_of(table, CELL).rows
    assert {row.id for row in rows.values()} == {one.id for one in whole}
    # A stopped one is none.
    table.drop(whole[0].id)
    table.put(replace(whole[0], outcome=example(outcome="stopped").outcome), [membership(CELL)])
    assert not done(table, CELL)
