import json
import re

import numpy as np
import pytest

from tests.language.scenes import SCENES, goals_of, listed
from vlm4vla.language.draw import GoalKey
from vlm4vla.language.known import TEMPLATES
from vlm4vla.language.meanings import TASKS
from vlm4vla.language.reading import Reading, known_sentences, read_in_scene
from vlm4vla.suites.tabletop.scene import LAYOUT_OF_TASK, sample_scene, things


def read(scene: str, sentence: str) -> Reading:
    return read_in_scene(sentence, SCENES[scene], goals_of(SCENES[scene]))


def said(reading: Reading) -> str:
    if reading.goal is None:
        return reading.reason
    task, thing, target = reading.goal
    return f"{task}: {thing}" + (f" > {target}" if target else "")


@pytest.mark.parametrize(("scene", "expected", "sentence"), listed())
def test_a_sentence_has_its_reading(scene, expected, sentence):
    reading = read(scene, sentence)
    assert said(reading) == expected, reading.sentence


def test_the_list_is_long_and_even():
    expected = [line[1].split(":")[0] for line in listed()]
    assert len(expected) > 250
    assert sum(name in TASKS for name in expected) > 60
    assert {"ambiguous", "absent", "several tasks", "no task", *TASKS} == set(expected)


@pytest.mark.parametrize("task", TASKS)
def test_known_sentences_are_known_and_the_table_reads_them_alike(task):
    for seed in range(3):
        scene = sample_scene(LAYOUT_OF_TASK[task], seed)
        goals = [(goal.task, goal.object, goal.target) for goal in scene.goals()]
        for goal in scene.goals(task):
            for sentence in known_sentences(GoalKey(goal.task, goal.object, goal.target)):
                reading = read_in_scene(sentence.upper() + "!", things(scene), goals)
                assert reading.kind == "known"
                assert reading.goal == (goal.task, goal.object, goal.target)
                polite = read_in_scene(f"please {sentence}", things(scene), goals)
                assert polite.kind == "understood"
                assert polite.goal == reading.goal


def test_into_a_bowl_is_known():
    assert read("c", "put the yellow ball into the purple bowl").kind == "known"


def test_what_is_understood_says_what_it_is_judged_as():
    reading = read("o", "could you hold up teh crimson one?")
    assert reading.kind == "understood" and reading.judged and reading.reason == ""
    assert reading.judged_as == "pick up the red cube"
    assert "pick up the red cube" in reading.sentence
    assert reading.things == ("red cube",)
    assert reading.mended == (("teh", "the"),)
    assert reading.suggestions == ()


def test_what_is_ambiguous_outlines_what_it_could_be():
    reading = read("o", "pick up the cube")
    assert reading.sentence == "Which cube? It could be the red cube or the blue cube."
    assert reading.things == ("red cube", "blue cube")
    assert set(reading.suggestions) == {"pick up the red cube", "pick up the blue cube"}


def test_what_is_absent_is_named():
    assert read("o", "grab the violet block").sentence == "There is no purple cube here."
    assert read("o", "touch the thing next to it").reason == "no task"


def test_unknown_words_are_listed_once():
    reading = read("o", "zarf the blick zarf")
    assert reading.unknown == ("zarf", "blick")
    assert '"zarf"' in reading.sentence and '"blick"' in reading.sentence


def test_suggestions_can_be_carried_out():
    for scene, expected, sentence in listed():
        reading = read(scene, sentence)
        if expected in ("ambiguous", "absent", "several tasks", "no task"):
            assert reading.suggestions
            assert all(read(scene, text).kind == "known" for text in reading.suggestions)


def test_a_dish_is_a_plate_or_a_bowl_whichever_is_there():
    assert said(read("c", "put the ball in the green dish")) == "place: yellow ball > green plate"
    assert said(read("c", "put the ball in the purple dish")) == "place: yellow ball > purple bowl"
    assert read("c", "put the ball in the dish").reason == "ambiguous"


def test_a_reading_is_plain_data():
    for sentence in ("pick up the red cube", "lift teh red one", "zarf"):
        reading = read("o", sentence)
        again = json.loads(json.dumps(reading.as_json()))
        assert again["text"] == sentence and again["kind"] == reading.kind
        assert again["mended"] == [list(pair) for pair in reading.mended]
        if reading.goal:
            assert again["goal"] == {"task": "pick", "object": "red cube", "target": None}


def test_no_jumble_of_words_is_judged_by_a_part_of_it():
    """A word too many that is no courtesy makes a sentence another one."""
    extra = [
        "not",
        "never",
        "foot",
        "slowly",
        "twice",
        "big",
        "behind",
        "left",
        "gently",
        "blick",
        "off",
        "both",
        "2",
        "🙂",
        "le",
    ]
    rng = np.random.default_rng(0)
    templates = [template for task in ("reach", "pick") for template in TEMPLATES[task].train]
    for _ in range(600):
        words = templates[int(rng.integers(len(templates)))].format(object="red cube").split()
        words.insert(int(rng.integers(len(words) + 1)), extra[int(rng.integers(len(extra)))])
        sentence = " ".join(words)
        reading = read("o", sentence)
        if reading.judged:
            # "The left red cube" is where the red cube is, and "take the cube off the table".
            assert re.search(r"\bleft red cube|off$|off the table", sentence), sentence


def test_whatever_is_typed_is_read():
    rng = np.random.default_rng(1)
    scraps = ["lift", "the", "red", "cube", "it", "and", "put", "on", ".", ",", "<", "ß", "🤖", "'"]
    for _ in range(400):
        count = int(rng.integers(0, 14))
        text = " ".join(scraps[int(i)] for i in rng.integers(len(scraps), size=count))
        reading = read("o", text)
        assert reading.sentence and reading.judged == (reading.kind != "not judged")
