"""How far rollouts lead from training pictures, over what is shipped."""

from pathlib import Path

import pytest

from pages.encoders.distance import along_the_episode, answer, sentence, to_csv
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.eval.open_loop_results import DISTANCE, read_results


def test_what_is_shipped_is_of_the_shipped_policies_and_names_its_command() -> None:
    catalogue, found = AgentCatalogue(), read_results(kind=DISTANCE)
    assert {one["name"] for one in found} == set(catalogue.names()) - {"expert"}
    for one in found:
        assert one["checkpoint"] == catalogue.evaluation(one["name"])["checkpoint"]
        assert f"distance --checkpoint {one['name']}" in one["command"]
        counts = {row["group"]: row["mean"]["n"] for row in one["groups"]}
        assert counts["expert"] == counts["success"] + counts.get("failure", 0)
        assert counts.get("failure", 0) == one["failures"]
        assert (one["told"] is None) == (one["failures"] < 5)


def test_the_sentence_the_plot_and_the_file_hold_the_stored_numbers() -> None:
    found = read_results(kind=DISTANCE)
    [success] = [row for row in found[0]["groups"] if row["group"] == "success"]
    assert f"successes {success['mean']['mean']:.2f} (95 %" in sentence(found[0])
    [drawn] = [
        trace
        for trace in along_the_episode(found).data
        if trace.name.startswith(f"{found[0]['name']}: policy, successes")
    ]
    assert list(drawn.y) == pytest.approx([part["mean"] for part in success["parts"]])
    assert list(drawn.x) == pytest.approx([0.05 + part / 10 for part in range(10)])
    lines = to_csv(found).splitlines()
    assert len(lines) == 1 + 11 * sum(len(one["groups"]) for one in found)


def test_it_says_what_to_do_where_nothing_was_measured(tmp_path: Path) -> None:
    assert "vlm4vla distance" in answer(tmp_path)[0]
    (tmp_path / "picture-distance-x.json").write_text("{")
    assert "is no JSON" in answer(tmp_path)[0]
