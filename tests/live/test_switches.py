"""A policy that is blinded, or told something else, while it acts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.ablation.test_agent import Noting
from tests.live.fake_simulators import FakeSimulators, Still
from vlm4vla.ablation.agent import PerturbedAgent
from vlm4vla.ablation.registry import perturbation
from vlm4vla.ablation.sentences import perturbed_sentence
from vlm4vla.core.condition import GIVEN, Condition, Perturbation
from vlm4vla.core.episode import AgentSpan, EpisodeSpec, episode_id
from vlm4vla.core.rollout import rollout
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.rates import standing
from vlm4vla.live import session
from vlm4vla.live.session import Finished, Frame, play
from vlm4vla.live.switches import BLIND, SWAP, Switches
from vlm4vla.suites.registry import TABLETOP

SPEC = replace(TABLETOP.spec("pick", 4, Condition()), condition=Condition(words=GIVEN))


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.setattr(session, "STEPS_PER_SECOND", 1000)
    return Archive.open()


def played(
    agent: Any,
    archive: Archive,
    *asked: tuple[int, str],
    visitor: str = "a",
    spec: EpisodeSpec = SPEC,
) -> tuple[list[Frame], Finished]:
    """An episode in which switches are pressed when a step is seen."""
    switches, seen, finished = Switches(), [], None
    for moment in play(
        FakeSimulators(lasts=6),
        visitor,
        agent,
        spec,
        archive,
        {"kind": "known"},
        switches=switches,
    ):
        if isinstance(moment, Frame):
            seen.append(moment)
            for step, name in asked:
                if step == moment.step:
                    switches.ask("a", name)
        elif isinstance(moment, Finished):
            finished = moment
    assert finished is not None
    return seen, finished


def pixels(agent: Noting) -> list[int]:
    return [int(one.images["policy"][0, 0, 0]) for one in agent.seen]


def test_blinded_in_mid_run_it_sees_grey_from_that_step_on(archive: Archive) -> None:
    agent = Noting()
    seen, finished = played(agent, archive, (2, BLIND))
    assert pixels(agent) == [0, 1, 128, 128, 128, 128]
    # The page shows what the policy sees.
    assert [int(frame.image[0, 0, 0]) for frame in seen] == [0, 1, 2, 128, 128, 128, 128]
    assert [len(frame.changes) for frame in seen] == [0, 0, 0, 1, 1, 1, 1]
    kept = archive.table.get(finished.episode.id)
    assert kept.spec.condition.perturbations == (perturbation(BLIND, first_step=2),)
    assert kept.id == episode_id(kept.spec, (AgentSpan(agent.identity),), kept.versions)
    assert kept.spec.condition.label == "picture-blank (level 128) from step 2 on"


@pytest.mark.parametrize("before", [(), (perturbation("picture-noise"),)])
def test_the_kept_condition_gives_the_same_episode_again(
    before: tuple[Perturbation, ...], archive: Archive
) -> None:
    live = Noting()
    spec = replace(SPEC, condition=replace(SPEC.condition, perturbations=before))
    _, finished = played(live, archive, (1, BLIND), (3, SWAP), spec=spec)
    again = Noting()
    simulators = FakeSimulators(lasts=6)
    with simulators.lend() as environment:
        list(rollout(environment, PerturbedAgent(again), finished.episode.spec))
    assert pixels(again) == pixels(live)
    assert again.told == live.told


def test_with_the_words_swapped_it_is_told_of_another_object(archive: Archive) -> None:
    agent = Noting()
    seen, finished = played(agent, archive, (3, SWAP), (4, SWAP))
    other = perturbed_sentence(SPEC, perturbation(SWAP))
    assert agent.told == [(0, SPEC.instruction), (3, other)]
    assert [frame.told for frame in seen] == [SPEC.instruction] * 4 + [other] * 3
    assert finished.episode.spec.condition.perturbations == (perturbation(SWAP, first_step=3),)
    # What is asked for stays, and the other goal is told beside it.
    assert finished.episode.spec.instruction == SPEC.instruction
    assert finished.episode.outcome.measures["old_goal_done"] is False


def test_it_counts_in_no_rate_of_plain_sentences(archive: Archive) -> None:
    agent = Noting()
    played(agent, archive)
    played(agent, archive, (2, BLIND))
    found = standing(archive.table, agent.identity.digest, "pick", {})
    assert (found.rate.successes, found.rate.n) == (1, 1)


@pytest.mark.parametrize("when", [6, 99])
def test_what_comes_too_late_changes_nothing(archive: Archive, when: int) -> None:
    _, finished = played(Noting(), archive, (when, BLIND))
    assert finished.episode.spec == SPEC
    assert "old_goal_done" not in finished.episode.outcome.measures


def test_nobody_switches_another_s_policy_or_an_expert(archive: Archive) -> None:
    _, finished = played(Noting(), archive, (2, BLIND), visitor="b")
    assert finished.episode.spec == SPEC
    _, finished = played(Still("expert"), archive, (2, BLIND))
    assert finished.episode.spec == SPEC


def test_switches_are_known_ones_of_those_who_watch() -> None:
    switches = Switches()
    switches.ask("a", BLIND)
    number = switches.begin("a")
    assert switches.take("a", number) == []
    switches.ask("a", BLIND)
    switches.ask("a", "picture-noise")
    assert switches.take("a", number) == [BLIND] and switches.take("a", number) == []
    switches.end("a", number)
    switches.ask("a", SWAP)
    assert switches.take("a", number) == []


def test_an_episode_that_is_replaced_takes_nothing_from_the_next_one() -> None:
    switches = Switches()
    old = switches.begin("a")
    new = switches.begin("a")
    switches.ask("a", BLIND)
    assert switches.take("a", old) == []
    # It ends after the next one has begun.
    switches.end("a", old)
    assert switches.take("a", new) == [BLIND]
    switches.ask("a", SWAP)
    assert switches.take("a", new) == [SWAP]
