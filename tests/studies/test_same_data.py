"""Which frames count as those that a cell names."""

import pytest

from vlm4vla.data.cache import asked_of
from vlm4vla.data.collect import Settings
from vlm4vla.data.record import begin, info_of
from vlm4vla.studies.registry import STUDIES
from vlm4vla.studies.same_data import ASKED, ELSEWHERE, same_data
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import scene_of

[DECLARED] = {member.cell.data for study in STUDIES.values() for member in study.members}


def test_every_kind_of_machine_records_the_data_and_nobody_records_other_data() -> None:
    assert same_data(DECLARED, "whatever", DECLARED)
    assert same_data("of another machine", ASKED[DECLARED], DECLARED)
    assert not same_data("of another machine", "of other episodes", DECLARED)
    assert not same_data("of another machine", "None", "of no study")
    # Runs that were begun before say nothing of their episodes.
    assert all(same_data(known, "None", DECLARED) for known in ELSEWHERE[DECLARED])


@pytest.mark.long
def test_the_declared_episodes_are_those_of_the_documented_command() -> None:
    """`vlm4vla collect --tasks reach pick push place stack --episodes 1400`, not carried out."""
    settings = Settings(tuple(TASKS), 1_000_000, "expert")
    infos = []
    for index in range(len(TASKS) * 1_400):
        spec, _ = begin(*settings.episode(index), expert=True)
        scene = scene_of(spec)
        names = [thing.name for thing in (*scene.objects, *scene.fixtures)]
        infos.append(info_of(spec, "expert", names, len(scene.objects)))
    assert asked_of(infos) == ASKED[DECLARED]
