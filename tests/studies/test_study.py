"""What is declared: cells, their names, and that a preset still holds a cell's constants."""

import hashlib
from dataclasses import asdict, replace

import pytest

from vlm4vla.model.groups import GROUPS
from vlm4vla.studies.cell import SINCE
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


def test_a_step_is_part_of_its_cells_name_and_has_a_name_of_its_own():
    cells = [m.cell for m in STUDIES["injection"].members if m.cell.seed == 0]
    assert len({cell.name for cell in cells}) == 8
    # Two trainings of a policy begin with each VLM.
    steps = [cell.step for cell in cells if cell.step]
    assert len(steps) == 6 and len({step.name for step in steps}) == 3
    for cell in cells:
        if cell.step:
            assert cell.step.start == cell.start and cell.step.data == cell.data
            assert (cell.step.seed, cell.step.tasks) == (cell.seed, cell.tasks)
            assert replace(cell, step=replace(cell.step, shuffled=True)).name != cell.name or (
                cell.step.shuffled
            )
    # Without a step these are cells of the modules study.
    modules = {member.level: member.cell for member in STUDIES["modules"].members[:4]}
    plain = {m.level: m.cell for m in STUDIES["injection"].members[:8] if not m.cell.step}
    assert plain["no tokens, then vision frozen"] == modules["vision frozen"]
    assert plain["no tokens, then vision trained"] == modules["all"]


def test_names_stay_what_they_were():
    """Episodes lie in tables under these names."""
    first = {name: study.members[0].cell.name for name, study in STUDIES.items()}
    assert first["rate"] == "2507f4dc0f0a"
    assert first["initialisation"] == first["modules"] == "14348df89c9f"
    names = [
        m.cell.name
        for key in ("rate", "initialisation", "modules")
        for m in STUDIES[key].members
        # Those at 2e-4 came later.
        if key == "rate" or m.cell.learning_rate == 6e-4
    ]
    found = hashlib.sha256(" ".join(names).encode()).hexdigest()
    assert found == "1be0d36a9f1490d5d1550ae4a440d465fd3b150714b943fe11939a919fccef45"


def test_the_grids_are_the_declared_ones():
    # Two families and three training seeds: three starts at two rates; four freezes, and the head
    # with one seed.
    assert {name: len(one.members) for name, one in STUDIES.items()} == {
        "rate": 2 * 2 * 3,
        "initialisation": 3 * 2 * 3 * 2,
        "modules": 4 * 2 * 3 + 2,
        # One family and two seeds: none, two steps and the control, under two trainings each.
        "injection": 4 * 2 * 2,
    }
    for study in STUDIES.values():
        assert len({member.cell.name for member in study.members}) == len(study.members)
    all_of_it = {m.cell.name for m in STUDIES["modules"].members if m.level == "all"}
    vlm = [m.cell for m in STUDIES["initialisation"].members if m.level == "VLM"]
    assert all_of_it == {cell.name for cell in vlm if cell.learning_rate == 6e-4}
    for name in ("initialisation", "modules"):
        for member in STUDIES[name].members:
            assert member.cell.scenes.seeds == range(100)
    for member in STUDIES["rate"].members:
        assert set(member.cell.scenes.seeds) <= set(range(100_000, 200_000))


def same_but_for_options(training, stage, own=frozenset()):
    preset = asdict(PRESETS[training.preset][stage])
    told = preset.pop("loop") | preset
    for name in {"seed", "save_every"} | own:
        del told[name]
    for name, value in SINCE.items():
        assert told.pop(name, value) == value
    options = {"steps", "batch", "learning_rate"}
    assert told.keys() == training.constants.keys()
    assert {k: v for k, v in told.items() if k not in options} == {
        k: v for k, v in training.constants.items() if k not in options
    }


@pytest.mark.parametrize("scale", [TINY, PAPER])
def test_the_presets_hold_the_declared_constants(scale):
    for study in studies(scale).values():
        for cell in (member.cell for member in study.members):
            same_but_for_options(cell, "imitation")
            assert set(cell.groups) <= set(GROUPS) and "head" in cell.groups
            if cell.step:
                same_but_for_options(cell.step, "tokens", {"shuffled"})
                assert "head" not in cell.step.groups


def test_the_declared_weights_are_the_shipped_ones():
    for member in STUDIES["initialisation"].members:
        member.cell.start.check()
