"""`vlm4vla.ablation.curves`."""

import pytest

from vlm4vla.ablation.curves import AXES
from vlm4vla.ablation.registry import perturbation
from vlm4vla.ablation.words import words_of


@pytest.mark.parametrize("name", AXES)
def test_the_intact_point_of_every_curve_has_a_name(name: str) -> None:
    """A page writes the address of each point, that of the usual value too."""
    axis = AXES[name]
    assert words_of(perturbation(name, {axis.number: axis.usual})).startswith(name)
