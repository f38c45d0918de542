"""What is declared: cells, their names, and that a preset still holds a cell's constants."""

from dataclasses import asdict, replace

import pytest

from vlm4vla.model.groups import GROUPS
from vlm4vla.studies.registry import PAPER, STUDIES, TINY
from vlm4vla.studies.study import studies
from vlm4vla.train.presets import PRESETS


def test_a_cell_is_named_by_everything_that_goes_into_it():
    cell = STUDIES["modules"].members[0].cell
    others = [
        replace(cell, seed=1),
        replace(cell, groups=cell.groups[1:]),
        replace(cell, preset="tiny"),
        replace(cell, constants={**cell.constants, "learning_rate": 1e-3}),
        replace(cell, data="other"),
        replace(cell, tasks=("reach",)),
        replace(cell, scenes=replace(cell.scenes, first_seed=1)),
        replace(cell, scenes=replace(cell.scenes, episodes=99)),
        replace(cell, start=replace(cell.start, init="scratch")),
        replace(cell, start=replace(cell.start, digest="0")),
        replace(cell, start=replace(cell.start, family="internvl")),
    ]
    assert len({one.name for one in [cell, *others]}) == 12
    assert replace(cell, constants=dict(reversed(cell.constants.items()))).name == cell.name


def test_the_grids_are_the_declared_ones():
    # Two families and three training seeds: three starts; four freezes, and one seed of the head.
    assert {name: len(one.members) for name, one in STUDIES.items()} == {
        "rate": 2 * 2 * 3,
        "initialisation": 3 * 2 * 3,
        "modules": 4 * 2 * 3 + 2,
    }
    for study in STUDIES.values():
        assert len({member.cell.name for member in study.members}) == len(study.members)
    all_of_it = {m.cell.name for m in STUDIES["modules"].members if m.level == "all"}
    assert all_of_it == {m.cell.name for m in STUDIES["initialisation"].members if m.level == "VLM"}
    for name in ("initialisation", "modules"):
        for member in STUDIES[name].members:
            assert member.cell.scenes.seeds == range(100)
    for member in STUDIES["rate"].members:
        assert set(member.cell.scenes.seeds) <= set(range(100_000, 200_000))


@pytest.mark.parametrize("scale", [TINY, PAPER])
def test_the_presets_hold_the_declared_constants(scale):
    for study in studies(scale).values():
        for cell in (member.cell for member in study.members):
            preset = asdict(PRESETS[cell.preset]["imitation"])
            told = preset.pop("loop") | preset
            del told["seed"], told["save_every"]
            options = {"steps", "batch", "learning_rate"}
            assert told.keys() == cell.constants.keys()
            assert {k: v for k, v in told.items() if k not in options} == {
                k: v for k, v in cell.constants.items() if k not in options
            }
            assert set(cell.groups) <= set(GROUPS) and "head" in cell.groups


def test_the_declared_weights_are_the_shipped_ones():
    for member in STUDIES["initialisation"].members:
        member.cell.start.check()
