from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.episodes.examples import EVALUATION, LIVE, content, example
from vlm4vla import paths
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, AgentSpan, episode_id
from vlm4vla.episodes.filters import Filter, Membership
from vlm4vla.episodes.rows import Entry
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError


@pytest.fixture(params=["file", "memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> EpisodeTable:
    return EpisodeTable(tmp_path) if request.param == "file" else EpisodeTable.in_memory()


def test_an_episode_comes_back_whole(table: EpisodeTable) -> None:
    episode = example(noisy=True, reading="known", parent="0" * 16, branch_step=2, steps=30)
    key = table.put(episode, [EVALUATION])
    assert key == episode.id
    assert content(table.get(key)) == content(episode)
    row = table.row(key)
    assert (row.id, row.request_id) == (episode.id, episode.request_id)
    assert row.spec == episode.spec and row.outcome == episode.outcome
    assert row.agent == episode.agent and row.agent.name == "tiny"
    assert row.kinds == ("evaluation",) and row.created == 1.7e9 + 7


def test_it_survives_a_restart(tmp_path: Path) -> None:
    EpisodeTable(tmp_path).put(example())
    assert content(EpisodeTable(tmp_path).get(example().id)) == content(example())


def test_several_agents_and_their_first_steps_come_back(table: EpisodeTable) -> None:
    agents = (
        AgentSpan(AgentId("policy", "aa", "one")),
        AgentSpan(AgentId("expert", "expert", "expert"), 5),
    )
    key = table.put(example(agents=agents))
    assert content(table.get(key)) == content(example(agents=agents))


def test_the_same_episode_again_replaces_itself_and_stays_where_it_belongs(
    table: EpisodeTable,
) -> None:
    table.put(example(outcome="dropped"), [EVALUATION], legacy_id="ab" * 8)
    table.label(example().id, "slipped", "ann")
    table.put(example(source="live"), [LIVE])
    assert table.count() == 1
    row = table.row(example().id)
    assert row.outcome.success and row.source == "live" and row.legacy_id == "ab" * 8
    assert table.memberships(row.id) == [EVALUATION, LIVE]
    assert set(row.kinds) == {"evaluation", "live"}
    assert [one.label for one in table.labels(row.id)] == ["slipped"]


def test_an_episode_that_was_stopped_replaces_none_that_came_to_its_end(
    table: EpisodeTable,
) -> None:
    table.put(example(), [EVALUATION])
    table.put(example(outcome="stopped", steps=3, source="live"), [LIVE])
    assert table.row(example().id).outcome.success
    assert table.memberships(example().id) == [EVALUATION]
    table.put(example(8, outcome="stopped"))
    assert not table.row(example(8).id).current
    table.put(example(8))
    assert table.row(example(8).id).outcome.success and table.row(example(8).id).current


def test_of_two_versions_the_newer_one_is_current_in_whatever_order_they_come(
    table: EpisodeTable,
) -> None:
    old = example(versions={"torch": "1"})
    new = example(versions={"torch": "2"})
    assert old.id != new.id and old.request_id == new.request_id
    table.put(new, created=200.0)
    table.put(old, created=100.0)
    assert (table.row(new.id).current, table.row(old.id).current) == (True, False)
    assert table.count(Filter(current=True)) == 1 and table.count() == 2
    table.drop(new.id)
    assert table.row(old.id).current


def test_a_scene_that_is_only_looked_at_takes_nothing_out_of_an_evaluation(
    table: EpisodeTable,
) -> None:
    evaluated = example(versions={"torch": "1"})
    looked_at = example(versions={"torch": "2"})
    table.put(evaluated, [EVALUATION], created=100.0)
    table.put(looked_at, created=200.0)
    assert (table.row(evaluated.id).current, table.row(looked_at.id).current) == (True, False)
    table.join(looked_at.id, EVALUATION)
    assert (table.row(evaluated.id).current, table.row(looked_at.id).current) == (False, True)


def test_an_old_id_still_finds_its_episode(table: EpisodeTable) -> None:
    old = "0123456789abcdef"
    table.put(example(1), legacy_id=old, created=1.0)
    table.put(example(2), legacy_id=old, created=2.0)
    assert table.row(old).spec.seed == 2, "the newest where several share one"
    assert table.get(old).id == example(2).id
    assert table.keys_of_legacy(old) == [example(2).id, example(1).id]


@pytest.mark.parametrize("key", ["", "..", "0" * 16, "' OR 1=1 --", "%"])
def test_an_unknown_id_is_told(table: EpisodeTable, key: str) -> None:
    table.put(example())
    for ask in (table.get, table.row, table.drop, table.labels, table.memberships):
        with pytest.raises(UserError, match="no such stored episode"):
            ask(key)
    with pytest.raises(UserError, match="no such stored episode"):
        table.label(key, "odd", "ann")
    with pytest.raises(UserError, match="no such stored episode"):
        table.join(key, LIVE)
    assert table.count() == 1


def test_a_dropped_episode_takes_everything_of_its_own_with_it(table: EpisodeTable) -> None:
    table.put(example(1), [EVALUATION])
    table.put(example(2), [EVALUATION])
    table.label(example(1).id, "odd", "ann")
    table.drop(example(1).id)
    assert [row.spec.seed for row in table.query()] == [2]
    assert table.count(Filter(kind="evaluation", name="reported")) == 1
    with table.database.reading() as db:
        for name in ("arrays", "memberships", "labels"):
            left = db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            assert left == {"arrays": 1, "memberships": 1, "labels": 0}[name]


def test_a_person_s_last_label_counts_and_the_earlier_ones_stay(table: EpisodeTable) -> None:
    key = table.put(example(outcome="dropped"))
    table.label(key, "slipped", "ann", "at the rim", created=1.0)
    table.label(key, "pushed", "bob", created=2.0)
    table.label(key, "grasped beside it", "ann", created=3.0)
    last = [(one.who, one.label) for one in table.labels(key)]
    assert last == [("bob", "pushed"), ("ann", "grasped beside it")]
    assert [one.note for one in table.labels(key, all_of_them=True)] == ["at the rim", "", ""]
    assert table.row(key).outcome.kind == "dropped", "the automatic one stands beside it"


FILTERS = [
    (Filter(), {1, 2, 3, 4, 5}),
    (Filter(agent="cc"), {5}),
    (Filter(agent=("cc", "bed03166840b0dc4")), {1, 2, 3, 4, 5}),
    (Filter(agent=()), set()),
    (Filter(agent_kind="policy"), {1, 2, 3, 4, 5}),
    (Filter(suite="maniskill"), {4}),
    (Filter(task="stack"), {3}),
    (Filter(goal_task="pick"), {1, 2, 3, 4}),
    (Filter(goal_task="reach"), {5}),
    (Filter(condition=Condition()), {1, 3, 4, 5}),
    (Filter(condition=Condition(words="trained")), {2}),
    (Filter(words="trained"), {2}),
    (Filter(outcome="dropped"), {2, 3}),
    (Filter(success=True), {1, 4, 5}),
    (Filter(success=False), {2, 3}),
    (Filter(kind="evaluation"), {1, 2}),
    (Filter(kind="live"), {3}),
    (Filter(kind="evaluation", name="reported"), {1}),
    (Filter(name="reported"), {1}),
    (Filter(kind="live", name="reported"), set()),
    (Filter(reading_kind="unknown"), {3}),
    (Filter(source="live"), {3}),
    (Filter(split="test"), {1, 2, 3, 4, 5}),
    (Filter(text="BLUE"), {4}),
    (Filter(text="in dropped"), {2, 3}),
    (Filter(text="100%"), {5}),
    (Filter(text="100_"), set()),
    (Filter(goal_task="pick", outcome="dropped", words="trained"), {2}),
]


@pytest.mark.parametrize(("wanted", "seeds"), FILTERS)
def test_filters_choose(wanted: Filter, seeds: set[int]) -> None:
    table = EpisodeTable.in_memory()
    table.put(example(1), [EVALUATION])
    table.put(example(2, words="trained", outcome="dropped"), [Membership("evaluation", "other")])
    odd = example(3, task="stack", outcome="dropped", source="live", reading="unknown")
    table.put(odd, [LIVE])
    table.put(example(4, suite="maniskill", instruction="lift the blue cube"))
    goal = {"task": "reach", "object": "red cube", "target": None}
    table.put(example(5, agent="cc", goal=goal, instruction="touch 100% of it"))
    assert {row.spec.seed for row in table.query(wanted)} == seeds
    assert table.count(wanted) == len(seeds)
    assert {one.episode.spec.seed for one in table.entries(wanted)} == seeds


@pytest.mark.parametrize(
    ("order", "seeds"),
    [
        ("newest", [7, 6, 5, 4, 3, 2, 1]),
        ("oldest", [1, 2, 3, 4, 5, 6, 7]),
        ("longest", [1, 2, 3, 4, 5, 6, 7]),
        ("shortest", [7, 6, 5, 4, 3, 2, 1]),
    ],
)
def test_rows_come_in_order_and_no_more_than_asked_for(order, seeds) -> None:
    table = EpisodeTable.in_memory()
    for seed in range(1, 8):
        table.put(example(seed, steps=40 - seed))
    assert [row.spec.seed for row in table.query(order=order)] == seeds
    assert [row.spec.seed for row in table.query(order=order, limit=3)] == seeds[:3]


def test_those_that_came_to_their_end_are_known() -> None:
    table = EpisodeTable.in_memory()
    table.put(example(1))
    table.put(example(2, outcome="stopped"))
    assert table.known(example(seed).id for seed in (3, 1, 2, 1)) == {example(1).id}
    assert table.known([]) == set()


def test_more_ids_than_one_statement_can_take() -> None:
    table = EpisodeTable.in_memory()
    one = example()
    episodes = [replace(one, spec=replace(one.spec, seed=seed)) for seed in range(1203)]
    table.put_all(Entry(episode) for episode in episodes[::2])
    assert table.known(one.id for one in episodes) == {one.id for one in episodes[::2]}


def test_the_id_is_known_before_the_episode() -> None:
    one = example(noisy=True)
    assert episode_id(one.spec, one.agents, one.versions) == one.id


def test_what_was_put_together_is_kept_together_or_not_at_all(table: EpisodeTable) -> None:
    def entries():
        yield Entry(example(1))
        yield Entry(example(2))
        raise KeyError("while the third was made")

    with pytest.raises(KeyError):
        table.put_all(entries())
    assert table.count() == 0
    table.put(example(3))
    assert table.count() == 1


def test_put_new_leaves_what_is_there(table: EpisodeTable) -> None:
    table.put(example(1, outcome="dropped"))
    entries = [Entry(example(1), (EVALUATION,)), Entry(example(2)), Entry(example(2), (LIVE,))]
    assert table.put_new(entries) == 1
    assert table.row(example(1).id).outcome.kind == "dropped"
    assert table.memberships(example(1).id) == [EVALUATION]
    assert table.row(example(1).id).kinds == ("evaluation",)
    assert table.count() == 2


def test_threads_share_a_table(table: EpisodeTable) -> None:
    def work(first: int) -> None:
        for seed in range(first, first + 20):
            table.put(example(seed), [EVALUATION])
            assert table.row(example(seed).id).spec.seed == seed
            assert len(table.query(limit=5)) >= 1

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, 1000 * number) for number in range(4)]:
            done.result()
    assert table.count(Filter(kind="evaluation", name="reported")) == 80


def test_the_folders_are_the_settings_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "bucket"))
    monkeypatch.setenv("VLM4VLA_LOCAL", str(tmp_path / "disk"))
    table = EpisodeTable()
    table.put(example(source="live"))
    assert (tmp_path / "disk" / "table" / "episodes.sqlite").exists()
    assert [one.name for one in paths.home().iterdir()] == ["episodes.jsonl"]
    given = EpisodeTable(tmp_path / "own")
    given.put(example(source="live"))
    assert given.log is None


def test_a_table_that_was_moved_away_is_not_written_to(tmp_path: Path) -> None:
    table = EpisodeTable(tmp_path / "one")
    table.put(example(1))
    assert table.count() == 1
    (tmp_path / "one").rename(tmp_path / "two")
    assert table.count() == 0
    # Somebody else puts another one there.
    EpisodeTable(tmp_path / "one").put(example(2))
    table.put(example(3))
    assert {row.spec.seed for row in table.query()} == {2, 3}
    assert [row.spec.seed for row in EpisodeTable(tmp_path / "two").query()] == [1]


def test_a_closed_table_opens_again(tmp_path: Path) -> None:
    table = EpisodeTable(tmp_path)
    table.put(example(1))
    table.close()
    assert table.count() == 1
    table.put(example(2))
    assert table.count() == 2
