"""The kinds of maps: what can be chosen, their units, worth and commands."""

import pytest

from vlm4vla.attribution import names
from vlm4vla.attribution.worth import NOT_MEASURED
from vlm4vla.cli import main
from vlm4vla.inspection.kinds import KINDS, METHODS, TARGETS, USUAL, MapKind, kind_of

QWEN = "bed03166840b0dc4"


def test_every_kind_is_one_that_attribute_makes() -> None:
    assert set(TARGETS) <= set(names.TARGETS) and set(METHODS) <= set(names.METHODS)
    assert len({one.name for one in KINDS}) == 9


def test_an_address_that_makes_no_sense_asks_for_the_usual_kind() -> None:
    assert kind_of("gripper", "attention") == MapKind("gripper", "attention")
    assert kind_of("gripper", "sorcery") == MapKind("gripper", "occlusion")
    assert kind_of("", "") == USUAL
    assert USUAL == ("displacement", "occlusion")


def test_scores_have_the_unit_of_what_is_explained_and_attention_none() -> None:
    assert MapKind("gripper", "gradient").unit == "logit"
    assert MapKind("agreement", "occlusion").unit == "mm"
    assert MapKind("gripper", "attention").unit == ""


def test_the_worth_is_the_tables_and_what_it_lacks_is_not_measured() -> None:
    # The first rows of assets/results/trust-qwen3vl-tiny.json.
    assert "infidelity 0.29 (95 % 0.24 to 0.34, n = 100)" in USUAL.worth(QWEN)
    measured = [one for one in KINDS if one.worth(QWEN) != NOT_MEASURED]
    assert {one.target for one in measured} == {"displacement", "gripper"}
    assert len(measured) == 6
    assert USUAL.worth("0123456789abcdef") == NOT_MEASURED


@pytest.mark.parametrize("kind", KINDS, ids=[one.name for one in KINDS])
def test_the_command_is_one_that_is_understood(
    kind: MapKind, capsys: pytest.CaptureFixture[str]
) -> None:
    words = kind.command("ffffffffffffffff", 4).split()
    assert words[0] == "vlm4vla"
    # It fails at the episode, which is nowhere, and not at its words.
    assert main(words[1:]) == 2
    assert "no such" in capsys.readouterr().err
