import json

import pytest

from vlm4vla import cli


def test_readings_are_printed(capsys):
    assert cli.main(["language", "zarf it", "lift teh purple ball", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("On the table: orange cube, purple ball, yellow ball, green cylinder.")
    assert 'zarf it: not judged\n  Not understood: "zarf".' in out
    assert "lift teh purple ball: understood" in out
    assert 'read "teh" as "the"' in out and "pick: purple ball" in out
    assert "instead: pick up the" in out


def test_readings_are_printed_as_json(capsys):
    assert cli.main(["language", "Push it!", "--task", "push", "--json"]) == 0
    reading = json.loads(capsys.readouterr().out)
    assert reading["text"] == "Push it!" and reading["goal"] is None
    assert len(reading["suggestions"]) == 3


def test_the_page_is_written(tmp_path, capsys):
    assert cli.main(["language", "--coverage", "--scenes", "1", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "language.md").read_text("utf-8")
    assert capsys.readouterr().out.strip() == str(tmp_path / "language.md")
    assert "| named | 5 of 5 | 20 of 20" in text
    assert all(line.endswith("| 0 |") for line in text.splitlines() if " of 5 |" in line)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no sentence"),
        (["lift it", "--seed", "-1"], "start at 0"),
        (["--coverage", "--scenes", "0"], "at least one"),
    ],
)
def test_what_cannot_be_done_is_told(arguments, said, capsys):
    assert cli.main(["language", *arguments]) == 2
    assert said in capsys.readouterr().err
