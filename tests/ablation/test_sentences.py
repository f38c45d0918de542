import pytest

from tests.core.toy_suite import TOY
from vlm4vla.ablation.registry import PERTURBATIONS, perturbation
from vlm4vla.ablation.sentences import SENTENCES, perturbed_sentence
from vlm4vla.core.condition import Condition
from vlm4vla.errors import UserError
from vlm4vla.live.instruction import goal_in, understand
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.suite import goal_of, other_goal, scene_of, watched_goal, with_sentence

TASKS = ("reach", "pick", "push", "place", "stack")


def specs(**condition):
    return [
        TABLETOP.spec(task, seed, Condition(**condition)) for task in TASKS for seed in range(6)
    ]


def told(spec, name):
    return perturbed_sentence(spec, perturbation(name))


def test_every_perturbation_of_sentences_is_carried_out():
    assert {n for n in PERTURBATIONS if PERTURBATIONS.get(n).place == "sentence"} == set(SENTENCES)


@pytest.mark.parametrize("words", ["known", "trained", "broad"])
def test_another_object_s_sentence_means_another_object_of_the_same_scene(words):
    for spec in specs(words=words):
        sentence = told(spec, "sentence-other-object")
        meant = goal_in(understand(sentence, scene_of(spec)))
        assert meant == other_goal(spec)
        assert meant.task == goal_of(spec).task and meant.object != goal_of(spec).object
        assert meant in scene_of(spec).goals()
        assert sentence == told(spec, "sentence-other-object")


def test_the_goal_of_the_other_sentence_is_watched():
    change = perturbation("sentence-other-object")
    spec = TABLETOP.spec("place", 4, Condition(perturbations=(change,)))
    assert watched_goal(spec) == other_goal(spec)
    assert goal_of(spec) == goal_of(TABLETOP.spec("place", 4, Condition()))
    assert watched_goal(TABLETOP.spec("place", 4, Condition())) is None
    both = TABLETOP.spec("place", 4, Condition(goal="alternate", perturbations=(change,)))
    with pytest.raises(UserError, match="cannot be watched at once"):
        watched_goal(both)


def test_a_paraphrase_is_another_sentence_for_the_same_goal():
    for spec in specs():
        sentence = told(spec, "sentence-paraphrase")
        assert sentence != spec.instruction
        assert goal_in(understand(sentence, scene_of(spec))) == goal_of(spec)
    unjudged = with_sentence(specs()[0], "zarf the blick", None)
    with pytest.raises(UserError, match="Nothing that could be judged"):
        told(unjudged, "sentence-paraphrase")


def test_word_salad_holds_the_same_words_in_another_order():
    for spec in specs():
        shuffled = told(spec, "sentence-order")
        assert shuffled != spec.instruction
        assert sorted(shuffled.split()) == sorted(spec.instruction.split())
    assert told(with_sentence(specs()[0], "go go go", None), "sentence-order") == "go go go"


def test_nonsense_has_the_length_and_no_word_of_the_sentence():
    for spec in specs():
        words = told(spec, "sentence-nonsense").split()
        assert list(map(len, words)) == list(map(len, spec.instruction.split()))
        assert understand(" ".join(words), scene_of(spec)).kind == "not judged"
    assert told(specs()[0], "sentence-empty") == ""


def test_a_suite_with_one_sentence_a_task_has_no_other():
    spec = TOY.spec("go", 3, Condition())
    for name in ("sentence-other-object", "sentence-paraphrase"):
        with pytest.raises(UserError, match="'toy' has one sentence a task"):
            told(spec, name)
