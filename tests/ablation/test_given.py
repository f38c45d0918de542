"""What was given in stored episodes: drawn and said again, it is what the policy acted on."""

from dataclasses import replace

import numpy as np
import pytest

from tests.shipped import shipped
from vlm4vla.ablation.agent import PerturbedAgent
from vlm4vla.ablation.given import (
    GivenPainter,
    displaced,
    given_sentence,
    unrepeatable,
)
from vlm4vla.ablation.registry import perturbation
from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.attribution.inferences import pose_at
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.rollout import record
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP

EPISODES = {
    "picture-blank (level 128), sentence-empty": "b48a1775babec45f",
    "picture-other": "dd65444c21f95a1c",
    "picture-patches (side 16), sentence-other-object": "0080fa5f9bb1ac15",
    "picture-noise (sigma 8)": "bf32f63b5e50b095",
    "light (factor 0.5)": "6fdfbe31acd49f81",
}


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    found = shipped("qwen3vl-tiny-ablation", [*EPISODES.values()], tmp_path_factory.mktemp("rows"))
    return {name: found[key] for name, key in EPISODES.items()}


@pytest.fixture(scope="module")
def agent():
    from vlm4vla.agents.policy import load_agent

    return load_agent(SHIPPED / "qwen3vl-tiny")


@pytest.mark.parametrize("name", EPISODES)
def test_the_policy_does_again_what_it_did(name, episodes, environment, agent):
    shipped_spec = episodes[name].spec
    assert shipped_spec.condition.label == name
    # Begun here: another kind of processor rounds some pixels of the shipped one otherwise.
    spec = replace(shipped_spec, condition=replace(shipped_spec.condition, max_steps=5))
    episode = record(TABLETOP, environment, PerturbedAgent(agent), spec, "evaluation")
    assert [made.step for made in episode.predictions] == [0, 4]
    painter = GivenPainter.of(environment, spec)
    for made in episode.predictions:
        drawn = painter.at(made.step).draw(spec, pose_at(episode, made.step), ("policy",))
        told = given_sentence(spec, spec.condition.perturbations, made.step)
        again = agent.policy.act(drawn.images["policy"][None], [told])[0]
        np.testing.assert_allclose(again, made.chunk, atol=1e-3)


def test_shuffled_patches_are_those_of_the_drawn_picture(episodes, environment):
    episode = episodes["picture-patches (side 16), sentence-other-object"]
    pose = pose_at(episode, 4)
    plain = environment.draw(episode.spec, pose, ("policy",)).images["policy"]
    shown = GivenPainter.of(environment, episode.spec).at(4).draw(episode.spec, pose, ("policy",))
    order = np.random.default_rng([episode.spec.seed, 23]).permutation(64)
    for place, source in enumerate(order):
        (row, column), (up, left) = divmod(place, 8), divmod(int(source), 8)
        here = shown.images["policy"][16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        there = plain[16 * up : 16 * up + 16, 16 * left : 16 * left + 16]
        np.testing.assert_array_equal(here, there)


def test_a_thing_is_painted_out_where_it_is_drawn(episodes, environment):
    episode = episodes["light (factor 0.5)"]
    out = perturbation("picture-without", {"what": "object"}, first_step=4)
    spec = TABLETOP.spec("reach", 4, Condition(perturbations=(out,)))
    pose = pose_at(episode, 0)
    drawn = environment.draw(spec, pose, ("policy",), segmentation=True)
    plain, where = drawn.images["policy"], drawn.segmentation
    hidden = where == drawn.privileged.names.index(spec.goal["object"])
    assert hidden.any()
    painter = GivenPainter.of(environment, spec)
    assert (painter.at(3).draw(spec, pose, ("policy",)).images["policy"] == plain).all()
    shown = painter.at(4).draw(spec, pose, ("policy", "view")).images
    assert (shown["policy"][~hidden] == plain[~hidden]).all()
    assert len(np.unique(shown["policy"][hidden], axis=0)) == 1
    assert (shown["policy"][hidden] != plain[hidden]).any()
    # People see the table as it is.
    assert (shown["view"] == environment.draw(spec, pose, ("view",)).images["view"]).all()


def test_a_sentence_is_told_for_as_long_as_it_holds():
    empty = perturbation("sentence-empty", first_step=2, last_step=3)
    spec = TABLETOP.spec("pick", 0, Condition(perturbations=(empty,)))
    said = [given_sentence(spec, (empty,), step) for step in range(5)]
    assert said == [spec.instruction, spec.instruction, "", "", spec.instruction]


def test_what_drawing_does_not_repeat_is_named():
    changes = [
        perturbation("picture-blank"),
        perturbation("sentence-empty"),
        perturbation("skip-head"),
        perturbation("light"),
        Perturbation("gone", {"name": "red cube"}),
        Perturbation("of tomorrow"),
    ]
    assert unrepeatable(changes) == ["skip-head", "of tomorrow"]


def test_things_are_elsewhere_where_patches_are_shuffled_or_another_scene_is_shown():
    shuffled = perturbation("picture-patches", last_step=3)
    assert displaced([shuffled], 3) and not displaced([shuffled], 4)
    assert displaced([perturbation("picture-other")], 0)
    assert not displaced([perturbation("picture-blur")], 0)


def test_what_cannot_be_painted_out_is_refused(environment):
    out = perturbation("picture-without", {"what": "target"})
    spec = TABLETOP.spec("pick", 0, Condition(perturbations=(out,)))
    pose = environment.reset(TABLETOP.spec("pick", 0, Condition())).pose
    with pytest.raises(UserError, match="cannot be painted out"):
        GivenPainter.of(environment, spec).draw(spec, pose, ("policy",))
