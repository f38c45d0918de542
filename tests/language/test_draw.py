from itertools import islice

import numpy as np
import pytest

from vlm4vla.errors import UserError
from vlm4vla.language.draw import sentences, taught
from vlm4vla.language.kinds import (
    COMPARISONS,
    SHARES,
    all_words,
    held_out_kind,
    held_out_pair,
    training_words,
)
from vlm4vla.language.known import TEMPLATES, fill
from vlm4vla.language.meanings import TASKS
from vlm4vla.language.reading import read_in_scene
from vlm4vla.language.things import Thing
from vlm4vla.suites.tabletop.scene import LAYOUT_OF_TASK, sample_episode, sample_scene, things


def drawn(task, seed, split, count, kinds=None):
    scene = sample_scene(LAYOUT_OF_TASK[task], seed)
    goals = [(goal.task, goal.object, goal.target) for goal in scene.goals()]
    among = [goal for goal in goals if goal[0] == task]
    rng = np.random.default_rng([seed, TASKS.index(task)])
    goal = among[int(rng.integers(len(among)))]
    found = sentences(goal, things(scene), split, rng, kinds)
    return scene, goals, goal, list(islice(found, count))


@pytest.mark.parametrize("split", ["broad", "held-out"])
@pytest.mark.parametrize("task", TASKS)
def test_every_sentence_means_its_goal_and_no_other(task, split):
    for seed in range(15):
        scene, goals, goal, found = drawn(task, seed, split, 8)
        for sentence in found:
            assert sentence.goal == goal
            reading = read_in_scene(sentence.text, things(scene), goals)
            assert reading.goal == goal, (sentence.text, reading)


def test_training_never_holds_what_is_held_out():
    broad = [s for task in TASKS for seed in range(20) for s in drawn(task, seed, "broad", 5)[3]]
    words = {word for sentence in broad for word in sentence.text.split()}
    assert words <= training_words() < all_words()
    assert {"crimson", "block", "sphere", "please"} <= words
    assert not any(s.held_out or held_out_kind(s.goal.task, s.kind) for s in broad)
    held = [s for task in TASKS for seed in range(20) for s in drawn(task, seed, "held-out", 5)[3]]
    texts = {sentence.text for sentence in broad}
    for sentence in held:
        assert sentence.text not in texts
        outside = set(sentence.text.split()) - training_words()
        assert bool(outside) == (sentence.held_out == "word")
    assert {s.held_out for s in held} == {"word", "combination"}


def test_every_kind_of_reference_is_drawn_and_named():
    kinds = {
        s.kind
        for split in ("broad", "held-out")
        for task in TASKS
        for seed in range(25)
        for s in drawn(task, seed, split, 5)[3]
    }
    assert kinds == set(SHARES)


def test_a_kind_can_be_asked_for():
    found = drawn("place", 3, "broad", 20, {"named": 1.0})[3]
    assert {sentence.kind for sentence in found} == {"named"}
    assert all("red" in s.text or s.goal.object.split()[0] in s.text for s in found)


def test_known_sentences_are_the_training_templates():
    _, _, goal, found = drawn("stack", 0, "known", 200)
    assert {s.text for s in found} == {fill(t, *goal[1:]) for t in TEMPLATES["stack"].train}
    assert {s.kind for s in found} == {"known"}


def test_combinations_are_held_out_for_good():
    # Training of a shipped checkpoint rests on these.
    assert held_out_pair("green", "can") and not held_out_pair("red", "block")
    assert not held_out_pair("red", "cube") and not held_out_pair("", "block")
    assert held_out_kind("stack", "nearest to") and not held_out_kind("pick", "nearest to")
    assert not any(held_out_kind(task, "synonym") for task in TASKS)


@pytest.mark.parametrize(
    ("goal", "split", "kinds", "said"),
    [
        (("reach", "red cube", None), "french", None, "french"),
        (("cook", "red cube", None), "broad", None, "cook"),
        (("reach", "red cube", None), "broad", {"rhymes": 1.0}, "rhymes"),
    ],
)
def test_what_does_not_exist_is_named(goal, split, kinds, said):
    with pytest.raises(UserError, match=said):
        sentences(goal, (), split, np.random.default_rng(0), kinds)


def test_a_kind_that_the_scene_does_not_allow_is_told():
    scene = sample_scene("objects", 0)
    goal = ("reach", scene.objects[0].name, None)
    with pytest.raises(UserError, match="between"):
        sentences(goal, things(scene)[:1], "broad", np.random.default_rng(0), {"between": 1.0})


def test_an_episode_is_the_same_for_the_same_seed_and_words():
    for words in ("broad", "held-out"):
        first = sample_episode("place", 7, words=words)
        assert first == sample_episode("place", 7, words=words)
        known = sample_episode("place", 7)
        assert (first.scene, first.goal) == (known.scene, known.goal)
        assert first.instruction != known.instruction
        assert (first.kind in SHARES) and known.kind == "known"


def test_what_is_taught_is_never_a_held_out_paraphrase() -> None:
    goal = ("reach", "red cube", None)
    kept = {"go and touch the red cube", "move the gripper to the red cube"}
    kept |= {"make the hand touch the red cube"}
    things = [Thing("red cube", "red", "cube", 0.0, 0.0, True)]
    broad = islice(sentences(goal, things, "broad", np.random.default_rng(0)), 3000)
    assert kept & {one.text for one in broad}
    drawn = islice(taught(goal, things, np.random.default_rng(0)), 3000)
    assert not kept & {one.text for one in drawn}


def test_comparisons_can_be_taught_more_often() -> None:
    scene = sample_scene(LAYOUT_OF_TASK["pick"], 3)
    goal = next((g.task, g.object, g.target) for g in scene.goals() if g.task == "pick")

    def share(times: float) -> tuple[float, set[str]]:
        drawn = taught(goal, things(scene), np.random.default_rng(0), times)
        kinds = [one.kind for one in islice(drawn, 1500)]
        return float(np.mean([kind in COMPARISONS for kind in kinds])), set(kinds)

    usual, kinds = share(1.0)
    compared = sum(SHARES[kind] for kind in kinds if kind in COMPARISONS)
    others = sum(SHARES[kind] for kind in kinds if kind not in COMPARISONS)
    assert usual == pytest.approx(compared / (compared + others), abs=0.04)
    assert share(6.0)[0] == pytest.approx(6 * compared / (6 * compared + others), abs=0.04)
    assert share(0.0)[0] == 0
