from dataclasses import replace
from pathlib import Path

from tests.eval import examples
from vlm4vla.eval.standing import standing
from vlm4vla.eval.store import Store

RECORD = replace(examples.RECORD, driver="0123456789abcdef")


def test_the_best_episodes_there_are_decide(tmp_path: Path) -> None:
    store = Store(tmp_path)
    nothing = standing(store, RECORD.driver, "pick", {})
    assert nothing.rate.n == 0
    store.put(RECORD, b"")
    picked = standing(store, RECORD.driver, "pick", {})
    assert (picked.rate.successes, picked.rate.n) == (1, 1)
    assert "visitors picked" in picked.source
    for seed in (1, 2, 3):
        store.put(replace(RECORD, seed=seed, outcome="dropped"), None, evaluated=True)
    drawn = standing(store, RECORD.driver, "pick", {})
    assert (drawn.rate.successes, drawn.rate.n) == (0, 3)
    assert "evaluations on this machine" in drawn.source
    published = standing(
        store, RECORD.driver, "pick", {"tasks": {"pick": {"n": 200, "successes": 150}}}
    )
    assert (published.rate.successes, published.rate.n) == (150, 200)
    assert "comes with the checkpoint" in published.source
    # An evaluation says nothing about a task that it left out.
    assert standing(store, RECORD.driver, "pick", {"tasks": {"reach": {}}}) == drawn
