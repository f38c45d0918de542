import json

import pytest

from vlm4vla.errors import UserError
from vlm4vla.train.gates import Gate, check_gates, record_gates


def test_gates_that_pass_are_printed_and_recorded(tmp_path, capsys):
    gates = [Gate("accuracy", 0.97, 0.95), Gate("error", 3, 8, False)]
    record_gates(gates, tmp_path)
    check_gates(gates)
    assert capsys.readouterr().out.splitlines() == [
        "gate passed: accuracy 0.97 (needs >= 0.95)",
        "gate passed: error 3 (needs <= 8)",
    ]
    recorded = json.loads((tmp_path / "gates.json").read_text())
    assert [gate["passed"] for gate in recorded] == [True, True]


def test_a_failed_gate_stops_and_names_the_figure(tmp_path):
    gates = [Gate("accuracy", 0.97, 0.95), Gate("error in mm", 9.5, 8, at_least=False)]
    record_gates(gates, tmp_path)
    with pytest.raises(UserError, match=r"error in mm is 9\.5 and must be at most 8"):
        check_gates(gates)
    assert json.loads((tmp_path / "gates.json").read_text())[1]["passed"] is False


def test_a_figure_that_is_no_number_fails():
    assert not Gate("accuracy", float("nan"), 0.95).passed
    assert not Gate("error", float("nan"), 8, at_least=False).passed
