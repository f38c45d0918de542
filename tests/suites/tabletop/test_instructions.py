import pytest

from vlm4vla.language.known import TEMPLATES
from vlm4vla.suites.tabletop.instructions import Goal, paraphrases
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


def words(sentences):
    return {word for text in sentences for word in text.split() if not word.startswith("{")}


def test_held_out_sentences_use_only_words_of_the_training_text():
    train = words(text for templates in TEMPLATES.values() for text in templates.train)
    assert words(text for templates in TEMPLATES.values() for text in templates.held_out) <= train
    assert "stack" in train


def test_names_are_filled_in():
    assert "put the red cube in the green bowl" in paraphrases(GOALS["place"])
    assert "put the red cube on the yellow cylinder" in paraphrases(GOALS["stack"])
    assert "lift the red cube off the table" in paraphrases(GOALS["pick"], held_out=True)


def test_no_sentence_fits_two_goals_of_a_scene():
    for layout in ("objects", "zones", "containers"):
        goals = sample_scene(layout, 3).goals()
        sentences = [
            s for goal in goals for s in (*paraphrases(goal), *paraphrases(goal, held_out=True))
        ]
        assert len(sentences) == len(set(sentences))


def test_a_goal_reads_as_what_it_is():
    assert str(GOALS["push"]) == "push: red cube -> blue zone"
    assert str(GOALS["pick"]) == "pick: red cube"
