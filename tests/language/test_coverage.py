from pathlib import Path

from tests.language.scenes import SCENES, goals_of
from vlm4vla.language.coverage import EXAMPLE, EXAMPLE_GOALS, count, page
from vlm4vla.language.draw import GoalKey

ROOT = Path(__file__).parents[2]


def test_the_example_has_every_goal_of_its_table():
    assert set(EXAMPLE_GOALS) == {GoalKey(*goal) for goal in goals_of(EXAMPLE)}


def test_kinds_are_counted_where_the_scene_allows_them():
    scenes = [
        (SCENES["o"], goals_of(SCENES["o"]), GoalKey("reach", "red cube")),
        (SCENES["o"], goals_of(SCENES["o"]), GoalKey("reach", "blue cube")),
    ]
    found = {item.kind: item for item in count(scenes)}
    assert found["named"].scenes == found["named"].of == 2
    # One red thing, but two blue ones and two cubes; reach with a kind alone is held out.
    assert found["colour alone"].scenes == 1
    assert found["kind alone"].read == {"broad": (0, 0), "held-out": (0, 0)}
    assert found["colour alone"].read["broad"] == (4, 4)
    assert all(item.wrong == 0 for item in found.values())


def test_the_page_says_what_the_reader_does_today():
    written = (ROOT / "docs" / "language.md").read_text("utf-8").splitlines()
    made = page([], "").splitlines()
    missing = [line for line in made if line not in written and not line.startswith("Made by")]
    assert not missing, "run the command that the page names"
