from dataclasses import replace

import pytest

from tests.suites.tabletop.moved import episode_of
from vlm4vla.attribution.inferences import inferred_at
from vlm4vla.core.episode import Prediction
from vlm4vla.errors import UserError


def test_a_branch_has_no_inference_before_its_own_first_one() -> None:
    whole = episode_of("pick", steps=12)
    branch = replace(
        whole, predictions=tuple(Prediction(at, whole.actions[at : at + 4]) for at in (4, 8))
    )
    assert [inferred_at(branch, step) for step in (4, 7, 11)] == [4, 4, 8]
    with pytest.raises(UserError, match=r"for step 3\. Choose 4 to 11"):
        inferred_at(branch, 3)
