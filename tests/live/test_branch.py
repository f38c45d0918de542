"""Branches of stored episodes: what is checked, and what is played and kept."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.ablation.test_agent import Noting
from tests.inspection.examples import POLICY, still_episode
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from vlm4vla.ablation.given import given_sentence
from vlm4vla.ablation.registry import perturbation
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.condition import Perturbation
from vlm4vla.core.episode import Episode
from vlm4vla.core.rollout import rollout
from vlm4vla.episodes.archive import Archive
from vlm4vla.errors import UserError
from vlm4vla.live.branch import BLANK, removable, take_branch
from vlm4vla.live.instruction import suggestions
from vlm4vla.live.session import Finished, borrowed, play
from vlm4vla.suites.tabletop.changes import GONE
from vlm4vla.suites.tabletop.suite import goal_of, scene_of

CATALOGUE = AgentCatalogue(roots=())


def parent(**changes: Any) -> Episode:
    rows = np.tile([0.1, 0, 0, 0, 0, 0, 1.0], (8, 1))
    rows[:, 1] = 0.01 * np.arange(8)
    return still_episode(rows, task="place", **changes)


def other_sentence(episode: Episode) -> str:
    scene = scene_of(episode.spec)
    asked = goal_of(episode.spec)
    told = zip(scene.goals("place"), suggestions(scene, "place"), strict=True)
    return next(text for goal, text in told if goal.object != asked.object)


def test_the_expert_takes_over_with_the_same_sentence_and_goal() -> None:
    episode = parent(agent=POLICY)
    found = take_branch(CATALOGUE, episode, 3, agent=EXPERT.name)
    assert (found.spec.parent, found.spec.branch_step) == (episode.id, 3)
    assert found.spec.goal == episode.spec.goal
    assert found.spec.condition == episode.spec.condition
    assert np.array_equal(found.prefix, episode.actions[:3])


def test_another_sentence_is_judged_by_what_it_asks_for() -> None:
    episode = parent()
    found = take_branch(CATALOGUE, episode, 0, other_sentence(episode))
    assert found.spec.goal["object"] != episode.spec.goal["object"]
    assert found.spec.condition.words == "given"
    assert found.entry.identity == EXPERT and len(found.prefix) == 0


@pytest.mark.parametrize(
    ("step", "sentence", "agent", "problem"),
    [
        (8, "touch it", "", "The step must be"),
        (-1, "touch it", "", "The step must be"),
        (2.5, "touch it", "", "The step must be"),
        (True, "touch it", "", "The step must be"),
        ("2", "touch it", "", "The step must be"),
        (2, "", "", "Nothing would be changed"),
        (2, "zarf the yellow ball", "", "cannot do this"),
        (2, "x" * 500, "", "500 characters"),
        (2, "", "nobody", "no such agent"),
    ],
)
def test_what_cannot_be_is_refused(step: object, sentence: str, agent: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        take_branch(CATALOGUE, parent(), step, sentence, agent)


def test_the_picture_goes_blank_from_the_step_on(data_folder: Any) -> None:
    episode = parent(agent=POLICY)
    catalogue = FakeCatalogue("policy")
    wanted = take_branch(catalogue, episode, 3, agent="expert", change=BLANK)
    assert wanted.spec.instruction == episode.spec.instruction
    assert wanted.spec.condition.perturbations == (perturbation("picture-blank", first_step=3),)
    watching = Noting()
    entry = replace(wanted.entry, new_agent=lambda: watching)
    with FakeSimulators(lasts=6).lend() as environment:
        agent = replace(wanted, entry=entry).new_agent()
        list(rollout(environment, agent, wanted.spec, prefix=wanted.prefix))
    seen = [(one.step, int(one.images["policy"].max())) for one in watching.seen]
    assert seen == [(3, 128), (4, 128), (5, 128)]
    branch = replace(episode, spec=wanted.spec)
    with pytest.raises(UserError, match="blank already"):
        take_branch(catalogue, branch, 4, agent="expert", change=BLANK)


@pytest.mark.parametrize(
    ("step", "kept"), [(4, (perturbation("sentence-empty", last_step=3),)), (0, ())]
)
def test_another_sentence_is_told_though_the_parents_was_taken_away(
    step: int, kept: tuple[Perturbation, ...]
) -> None:
    episode = parent(agent=POLICY)
    empty = replace(episode.spec.condition, perturbations=(perturbation("sentence-empty"),))
    episode = replace(episode, spec=replace(episode.spec, condition=empty))
    wanted = take_branch(FakeCatalogue("policy"), episode, step, other_sentence(episode), "expert")
    assert wanted.spec.condition.perturbations == kept
    told = given_sentence(wanted.spec, wanted.spec.condition.perturbations, step)
    assert told == other_sentence(episode)


def test_a_thing_is_gone_from_the_step_on() -> None:
    episode = parent(agent=POLICY)
    catalogue = FakeCatalogue("policy")
    name = episode.spec.goal["object"]
    assert name in removable(episode.spec)
    wanted = take_branch(catalogue, episode, 5, agent="expert", change=name)
    assert wanted.spec.condition.perturbations == (Perturbation(GONE, {"name": name}, 5),)
    assert wanted.spec.goal == episode.spec.goal
    branch = replace(episode, spec=wanted.spec)
    with pytest.raises(UserError, match="gone already"):
        take_branch(catalogue, branch, 6, agent="expert", change=name)
    with pytest.raises(UserError, match="no green dragon"):
        take_branch(catalogue, episode, 5, agent="expert", change="green dragon")


def test_the_expert_is_not_asked_for_what_says_nothing() -> None:
    episode = parent(agent=POLICY)
    with pytest.raises(UserError, match="looks at no picture"):
        take_branch(CATALOGUE, episode, 2, agent=EXPERT.name, change=BLANK)
    with pytest.raises(UserError, match="nothing with the"):
        take_branch(CATALOGUE, episode, 2, agent=EXPERT.name, change=episode.spec.goal["object"])
    [*_, other] = [one for one in removable(episode.spec) if one not in episode.spec.goal.values()]
    found = take_branch(CATALOGUE, episode, 2, agent=EXPERT.name, change=other)
    assert found.spec.condition.perturbations[0].values == {"name": other}


def test_an_agent_that_is_gone_must_be_replaced() -> None:
    with pytest.raises(UserError, match="not here any more"):
        take_branch(CATALOGUE, parent(agent=POLICY), 2)


def test_a_branch_carries_out_the_parents_actions_and_is_kept(data_folder: Any) -> None:
    episode = parent(agent=POLICY)
    wanted = take_branch(FakeCatalogue(), episode, 3, agent=EXPERT.name)
    archive = Archive.open()
    moments = play(
        FakeSimulators(),
        "somebody",
        wanted.new_agent(),
        wanted.spec,
        archive,
        wanted.told,
        prefix=wanted.prefix,
    )
    [finished] = [one for one in moments if isinstance(one, Finished)]
    kept = archive.table.get(finished.episode.id)
    assert kept.spec.parent == episode.id
    # The one that acts then does nothing, in chunks of its own.
    assert np.array_equal(kept.actions[:3], episode.actions[:3])
    assert not kept.actions[3:].any()
    assert [one.step for one in kept.predictions] == [3]


def test_a_simulator_that_is_borrowed_is_given_back() -> None:
    simulators = FakeSimulators()
    with pytest.raises(ZeroDivisionError), borrowed(simulators, "somebody"):
        assert simulators.busy == 1
        raise ZeroDivisionError
    assert simulators.busy == 0
    with borrowed(simulators, "somebody"):
        pass
