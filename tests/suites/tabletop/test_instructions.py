import pytest

from vlm4vla.language.known import TEMPLATES
from vlm4vla.suites.tabletop.instructions import Goal, paraphrases, parse, words
from vlm4vla.suites.tabletop.scene import TASKS, sample_scene

GOALS = {
    "reach": Goal("reach", "red cube"),
    "pick": Goal("pick", "red cube"),
    "push": Goal("push", "red cube", "blue zone"),
    "place": Goal("place", "red cube", "green bowl"),
    "stack": Goal("stack", "red cube", "yellow cylinder"),
}


@pytest.mark.parametrize("task", TASKS)
def test_enough_paraphrases_and_no_overlap(task):
    train, held_out = TEMPLATES[task]
    assert len(set(train)) >= 8
    assert len(set(held_out)) >= 3
    assert not set(train) & set(held_out)


def test_held_out_sentences_use_only_words_of_the_training_text():
    assert words(held_out=True) <= words()
    assert "stack" in words() and "{object}" not in words()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_sentence_leads_back_to_its_goal(task, held_out):
    goal = GOALS[task]
    decoy = Goal(goal.task, "blue ball", goal.target)
    for sentence in paraphrases(goal, held_out=held_out):
        assert parse(sentence.upper() + " .", [decoy, *GOALS.values()]) == goal


def test_no_sentence_fits_two_goals_of_a_scene():
    for layout in ("objects", "zones", "containers"):
        goals = sample_scene(layout, 3).goals()
        sentences = [
            s for goal in goals for s in (*paraphrases(goal), *paraphrases(goal, held_out=True))
        ]
        assert len(sentences) == len(set(sentences))


def test_into_a_bowl_is_understood_and_nonsense_is_not():
    goal = GOALS["place"]
    assert parse("put the red cube into the green bowl", [goal]) == goal
    assert parse("put the red cube in the green bowl", [goal]) == goal
    assert parse("fly to the moon", [goal]) is None
    assert parse("pick up the red cube", [GOALS["push"]]) is None


def test_a_goal_reads_as_what_it_is():
    assert str(GOALS["push"]) == "push: red cube -> blue zone"
    assert str(GOALS["pick"]) == "pick: red cube"
