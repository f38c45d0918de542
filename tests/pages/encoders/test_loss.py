"""From loss to success, over what is shipped."""

import json
from pathlib import Path

import pytest

from pages.encoders.loss import answer, by_phase, error_and_success, sentence, to_csv
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.errors import UserError
from vlm4vla.eval.open_loop_results import SHIPPED, read_results


def test_what_is_shipped_is_of_the_shipped_policies_and_names_its_command() -> None:
    catalogue, found = AgentCatalogue(), read_results()
    assert {one["name"] for one in found} == set(catalogue.names()) - {"expert"}
    for one in found:
        assert one["checkpoint"] == catalogue.evaluation(one["name"])["checkpoint"]
        assert f"openloop --checkpoint {one['name']}" in one["command"]
        assert one["first_seed"] >= 100_000 and len(one["along"]) == 4
        assert set(one["success"]) == {"reach", "pick", "push", "place", "stack"}
        for row in one["rows"]:
            assert row["length"]["low"] <= row["length"]["mean"] <= row["length"]["high"]
            # A policy that is no better than standing still could not succeed.
            assert row["phase"] != "all" or row["length"]["mean"] < row["still"]["mean"]


def test_the_sentence_and_the_plots_hold_the_stored_numbers() -> None:
    found = read_results()
    [whole] = [r for r in found[0]["rows"] if (r["task"], r["phase"]) == ("all", "all")]
    said = sentence(found)
    assert f"{found[0]['name']} is {whole['length']['mean']:.1f} (95 %" in said
    done = [sum(count) for count in zip(*found[0]["success"].values(), strict=True)]
    assert f"{done[0]} of {done[1]}" in said
    drawn = {trace.name: trace for trace in by_phase(found).data}
    assert set(drawn) == {one["name"] for one in found}
    [approach] = [r for r in found[0]["rows"] if (r["task"], r["phase"]) == ("all", "approach")]
    trace = drawn[found[0]["name"]]
    assert [*zip(*trace.x, strict=True)][:4] == [
        ("approach", name) for name in ("x", "y", "z", "length")
    ]
    assert trace.y[:4] == pytest.approx([approach[n]["mean"] for n in ("x", "y", "z", "length")])
    points = {trace.name: trace for trace in error_and_success(found).data}
    task = points[found[0]["name"]].text[0]
    successes, n = found[0]["success"][task]
    assert points[found[0]["name"]].y[0] == pytest.approx(100 * successes / n)
    assert len(to_csv(found).splitlines()) == 1 + 5 * sum(len(one["rows"]) for one in found)


def test_it_says_what_to_do_where_nothing_was_measured(tmp_path: Path) -> None:
    assert "vlm4vla openloop" in answer(tmp_path)[0]
    (tmp_path / "open-loop-x.json").write_text("{")
    assert "is no JSON" in answer(tmp_path)[0]
    with pytest.raises(UserError):
        read_results(tmp_path)


def test_a_policy_that_was_never_evaluated_is_said_to_be_so(tmp_path: Path) -> None:
    one = json.loads((SHIPPED / "open-loop-qwen3vl-tiny.json").read_text())
    assert "not evaluated" in sentence([{**one, "success": {}}])
