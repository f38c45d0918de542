from dataclasses import replace

import psutil
import pytest

from tests.eval.examples import TRIAL
from vlm4vla.driver import ExpertDriver
from vlm4vla.errors import UserError
from vlm4vla.eval.trial import (
    Case,
    Condition,
    Trial,
    describe,
    summarise,
    table,
    try_cases,
    try_seeds,
)
from vlm4vla.suites.tabletop.instructions import parse
from vlm4vla.suites.tabletop.scene import sample_episode

WON = TRIAL
LOST = replace(WON, seed=2, success=False, events=((9, "wrong_object"), (60, "timeout")))


def test_summary_by_hand():
    rows = [WON] * 8 + [LOST] + [replace(LOST, events=((60, "timeout"),), old_goal_done=True)]
    figures = summarise(rows)
    assert (figures["n"], figures["successes"], figures["rate"]) == (10, 8, 0.8)
    # Wilson's interval for 8 of 10, from its closed form.
    assert figures["ci95"] == [0.4902, 0.9433]
    assert figures["wrong_object"] == figures["old_goal_done"] == 0.1
    assert describe("pick", figures) == (
        "pick: 8/10 (80.0%, 95 % interval 49.0% to 94.3%), wrong object 10.0%, old goal done 10.0%"
    )
    header, line = table({"pick": figures})
    assert len(header) == len(line)
    assert line.split() == ["pick", "10", "80.0%", "49.0%", "to", "94.3%", "10.0%", "10.0%"]


def test_rows_do_not_depend_on_the_number_of_workers():
    def outcome(trials):
        return [replace(trial, driver_ms=0.0, physics_ms=0.0) for trial in trials]

    seeds = [3, 4, 5]
    told: list[int] = []
    alone = try_seeds(ExpertDriver, "reach", seeds, 1, lambda trial: told.append(trial.seed))
    pair = try_seeds(ExpertDriver, "reach", seeds, 2, lambda trial: None)
    assert outcome(alone) == outcome(pair)
    assert [trial.seed for trial in alone] == told == seeds
    assert all(trial.success and trial.events[-1][1] == "success" for trial in alone)


class Stubborn(ExpertDriver):
    """Does the scene's first goal, whatever it is asked."""

    def begin(self, scene, instruction):
        wanted = parse(instruction, scene.goals())
        assert wanted is not None
        first = sample_episode(wanted.task, scene.seed)
        super().begin(scene, first.instruction)


def test_doing_the_old_goal_is_noticed():
    other = Condition(alternate=True)
    [obedient] = try_seeds(ExpertDriver, "pick", [6], 1, lambda trial: None, other)
    [stubborn] = try_seeds(Stubborn, "pick", [6], 1, lambda trial: None, other)
    assert obedient.success and not obedient.old_goal_done
    assert stubborn.old_goal_done and stubborn.wrong_object and not stubborn.success
    assert obedient.goal == stubborn.goal == str(sample_episode("pick", 6, alternate=True).goal)


class Lost(ExpertDriver):
    """Gives up at once."""

    def act(self, observation):
        raise UserError("I am lost.")


def test_a_failing_driver_ends_the_trial_with_its_own_words():
    with pytest.raises(UserError, match="I am lost"):
        try_seeds(Lost, "pick", range(40), 2, lambda trial: None)


class Killer(ExpertDriver):
    """Kills the first simulator that it drives, in mid-episode."""

    looks = 0

    def act(self, observation):
        type(self).looks += 1
        if type(self).looks == 2:
            [simulator] = [
                child
                for child in psutil.Process().children()
                if "vlm4vla.workers.simulator" in child.cmdline()
            ]
            simulator.kill()
            simulator.wait(30)
        return super().act(observation)


def test_an_episode_whose_simulator_died_is_run_again():
    told: list[Trial] = []
    [whole] = try_seeds(ExpertDriver, "reach", [3], 1, told.append)
    [again] = try_seeds(Killer, "reach", [3], 1, told.append)
    assert Killer.looks > 2 and len(told) == 2
    assert replace(again, driver_ms=0, physics_ms=0) == replace(whole, driver_ms=0, physics_ms=0)


def test_a_row_tells_what_was_there_and_under_which_condition():
    asked = Condition(held_out=True)
    rows = try_cases(
        ExpertDriver, [Case("reach", 3), Case("pick", 4)], 1, lambda trial: None, asked
    )
    assert [(row.task, row.seed) for row in rows] == [("reach", 3), ("pick", 4)]
    scene = sample_episode("reach", 3).scene
    assert rows[0].scene.startswith(f"{scene.layout}: {scene.objects[0].name}, ")
    assert (rows[0].held_out, rows[0].alternate) == (True, False)
    assert rows[0].instruction == sample_episode("reach", 3, held_out=True).instruction
