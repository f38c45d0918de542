"""Studies: declared grids of cells, and what is compared in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vlm4vla.model.group_names import GROUPS
from vlm4vla.studies.cell import Cell, Init, Scenes, Start, VlmStep


@dataclass(frozen=True)
class Contrast:
    """Two levels of what a study varies.

    Attributes:
        a: the one level.
        b: the level that it is compared with.
        paper: the paper's numbers on it, see `vlm4vla.studies.paper`; "" where it has none.
    """

    a: str
    b: str
    paper: str = ""


@dataclass(frozen=True)
class Member:
    """A cell in a study.

    Attributes:
        level: which value of what the study varies.
        cell: the cell; it may stand in other studies, too, and is run once.
    """

    level: str
    cell: Cell

    @property
    def label(self) -> str:
        """The cell for people, apart from the study."""
        return (
            f"{self.level}, {self.cell.start.family} at {self.cell.learning_rate:g}, "
            f"training seed {self.cell.seed}"
        )


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        name: what it is called.
        question: what it asks, for people.
        members: its grid.
        contrasts: what is compared within a family, a learning rate and a training seed.
    """

    name: str
    question: str
    members: tuple[Member, ...]
    contrasts: tuple[Contrast, ...]

    @property
    def levels(self) -> tuple[str, ...]:
        """The values of what is varied, in order."""
        return tuple(dict.fromkeys(member.level for member in self.members))


@dataclass(frozen=True)
class Vlm:
    """A VLM that cells start from; see `Start`."""

    family: str
    source: str
    digest: str = ""


@dataclass(frozen=True)
class Scale:
    """How large studies are: what all their cells share.

    Attributes:
        vlms: one a family.
        preset: of the training command.
        constants: see `Cell.constants`, without the learning rate.
        rates: learning rates that the study `rate` tries.
        chosen_rates: the VLM's best, then that of random starts where it is another one. Grids
            that have a random start are run at each, the others at the first.
        seeds: training seeds of the grids.
        selection_seed: training seed of the study `rate`.
        data: fingerprint of the training cache.
        tasks: that are learned.
        scenes: that the grids are evaluated on.
        selection: that the study `rate` is evaluated on.
        step_preset: of the command that trains a VLM on action tokens.
        step_constants: every number of its recipe by name.
        inits: starts of the initialisation study, the VLM's own first.
    """

    vlms: tuple[Vlm, ...]
    preset: str
    constants: Mapping[str, str | float]
    rates: tuple[float, ...]
    chosen_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    selection_seed: int
    data: str
    tasks: tuple[str, ...]
    scenes: Scenes
    selection: Scenes
    step_preset: str
    step_constants: Mapping[str, str | float]
    inits: tuple[Init, ...] = ("vlm", "scratch", "mimetic")


INITS: Final[Mapping[Init, str]] = {
    "vlm": "VLM",
    "scratch": "scratch",
    "mimetic": "scratch, the VLM's start",
}
"""Starts for people."""

ALL: Final = "all"

MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    ALL: (),
    "vision frozen": ("vision",),
    "embeddings frozen": ("embeddings",),
    "language frozen": ("language",),
}
"""What a level of the modules study freezes."""

HEAD_ONLY: Final = "only query and head"

_PAPER_FREEZES: Final = ("vision frozen", "embeddings frozen")


NONE: Final = "no tokens"
LANGUAGE: Final = "tokens to language"
WHOLE: Final = "tokens to all"
SHUFFLED: Final = "shuffled tokens to all"

STEPS: Final[Mapping[str, tuple[tuple[str, ...], bool] | None]] = {
    NONE: None,
    LANGUAGE: (("vision",), False),
    WHOLE: ((), False),
    SHUFFLED: ((), True),
}
"""What the VLM's step of the injection study freezes, and whether its tokens are shuffled."""

DOWNSTREAM: Final[Mapping[str, tuple[str, ...]]] = {
    "vision frozen": ("vision",),
    "vision trained": (),
}
"""What the policy's training freezes after it."""

INJECTION_SEEDS: Final = 2
"""How many of the training seeds the injection study has."""


def rate(scale: Scale) -> Study:
    """The choice of the learning rate, on scenes that nothing is reported from."""
    inits: tuple[Init, ...] = ("vlm", "scratch")
    return Study(
        "rate",
        "Which constant learning rate is best, for the pretrained and for the random start?",
        tuple(
            Member(
                INITS[init],
                _cell(scale, vlm, init, scale.selection_seed, value, scenes=scale.selection),
            )
            for vlm in scale.vlms
            for init in inits
            for value in scale.rates
        ),
        (),
    )


def initialisation(scale: Scale) -> Study:
    """The VLM's weights against random ones."""
    vlm, *others = (INITS[init] for init in scale.inits)
    return Study(
        "initialisation",
        "What does a policy gain from the VLM's weights?",
        tuple(
            Member(INITS[init], _cell(scale, one, init, seed, value))
            for value in scale.chosen_rates
            for seed in scale.seeds
            for one in scale.vlms
            for init in scale.inits
        ),
        # The paper's random weights are those that the class draws.
        tuple(
            Contrast(other, vlm, "from scratch" if other == INITS["scratch"] else "")
            for other in others
        ),
    )


def modules(scale: Scale) -> Study:
    """What has to learn."""
    members = [
        Member(level, _cell(scale, vlm, "vlm", seed, value, frozen))
        for value in scale.chosen_rates[:1]
        for seed in scale.seeds
        for vlm in scale.vlms
        for level, frozen in MODULES.items()
    ]
    members += [
        Member(HEAD_ONLY, _cell(scale, vlm, "vlm", scale.seeds[0], value, GROUPS[:-1]))
        for value in scale.chosen_rates[:1]
        for vlm in scale.vlms
    ]
    return Study(
        "modules",
        "Which parts of the VLM have to learn?",
        tuple(members),
        tuple(
            Contrast(level, ALL, level if level in _PAPER_FREEZES else "")
            for level in (*tuple(MODULES)[1:], HEAD_ONLY)
        ),
    )


def injection(scale: Scale) -> Study:
    """Actions as words of the VLM before the policy learns; of one family, as in the paper."""
    vlm = scale.vlms[0]
    return Study(
        "injection",
        "What does a policy gain if its VLM first answers with action tokens?",
        tuple(
            Member(
                after(name, downstream),
                _cell(scale, vlm, "vlm", seed, value, frozen, step=_step(scale, vlm, seed, name)),
            )
            for value in scale.chosen_rates[:1]
            for seed in scale.seeds[:INJECTION_SEEDS]
            for downstream, frozen in DOWNSTREAM.items()
            for name in STEPS
        ),
        tuple(
            contrast
            for one in DOWNSTREAM
            for contrast in (
                Contrast(after(LANGUAGE, one), after(NONE, one), after(LANGUAGE, one)),
                Contrast(after(WHOLE, one), after(NONE, one), after(WHOLE, one)),
                # As much training on the same pictures, without what the tokens say of them.
                Contrast(after(SHUFFLED, one), after(WHOLE, one)),
            )
        ),
    )


def after(step: str, downstream: str) -> str:
    """The level of the injection study with a step before a policy's training."""
    return f"{step}, then {downstream}"


def studies(scale: Scale) -> dict[str, Study]:
    """Every study that can be run, by name, in the order in which they are to be run."""
    declared = (rate, initialisation, modules, injection)
    return {study.name: study for study in (declare(scale) for declare in declared)}


def _step(scale: Scale, vlm: Vlm, seed: int, name: str) -> VlmStep | None:
    declared = STEPS[name]
    if declared is None:
        return None
    frozen, shuffled = declared
    return VlmStep(
        start=Start(vlm.family, vlm.source, vlm.digest, "vlm"),
        # Query and head take no part in it.
        groups=tuple(group for group in GROUPS[:-1] if group not in frozen),
        preset=scale.step_preset,
        constants=scale.step_constants,
        seed=seed,
        data=scale.data,
        tasks=scale.tasks,
        shuffled=shuffled,
    )


def _cell(
    scale: Scale,
    vlm: Vlm,
    init: Init,
    seed: int,
    learning_rate: float,
    frozen: tuple[str, ...] = (),
    scenes: Scenes | None = None,
    step: VlmStep | None = None,
) -> Cell:
    return Cell(
        start=Start(vlm.family, vlm.source, vlm.digest, init),
        groups=tuple(group for group in GROUPS if group not in frozen),
        preset=scale.preset,
        constants={**scale.constants, "learning_rate": learning_rate},
        seed=seed,
        data=scale.data,
        tasks=scale.tasks,
        scenes=scenes or scale.scenes,
        step=step,
    )
