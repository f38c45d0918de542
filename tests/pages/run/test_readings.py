"""How a sentence is read while one types, in a browser."""

from typing import Any, Final

from tests.pages.conftest import LIVE, wait_for_phase


def type_in(page: Any, sentence: str) -> str:
    """Types a sentence as a person does, and returns what is said of it."""
    before = page.inner_text(".rl")
    page.fill("#instruction textarea", "")
    page.locator("#instruction textarea").press_sequentially(sentence, delay=5)
    page.wait_for_function(
        "before => !['', before].includes(document.querySelector('.rl').innerText)", arg=before
    )
    page.wait_for_timeout(1500)
    return str(page.inner_text(".rl"))


def outlined(page: Any) -> list[str]:
    return [box.get_attribute("data-name") for box in page.locator(".lv-outlines span").all()]


READINGS: Final = (
    ("put the yellow ball in the red bowl", "known", "", ["yellow ball", "red bowl"]),
    ("could you lift the golden sphere", "understood", "yellow ball", ["yellow ball"]),
    ("PICK UP THE YELOW BALL", "understood", "yelow", ["yellow ball"]),
    ("pick up the ball", "not judged", "Which ball?", ["purple ball", "yellow ball"]),
    ("pick up the pink cube", "not judged", "", []),
    ("zarf the blick", "not judged", "zarf", []),
)


def test_the_three_readings_are_told_and_outlined_while_one_types(run_page: Any) -> None:
    for sentence, kind, said, things in READINGS:
        told = type_in(run_page, sentence)
        shown = run_page.get_attribute(".reading-line[data-ready]", "data-kind")
        assert shown == kind, sentence
        assert said in told, sentence
        assert sorted(outlined(run_page)) == sorted(things), sentence


def test_what_is_deleted_cut_or_pasted_is_read_again(run_page: Any) -> None:
    whole = type_in(run_page, "put the purple ball in the red bowl")
    for _ in range(len("bowl")):
        run_page.keyboard.press("Backspace")
    run_page.wait_for_function(
        "whole => !['', whole].includes(document.querySelector('.rl').innerText)", arg=whole
    )
    run_page.keyboard.press("Control+a")
    run_page.keyboard.press("Control+x")
    run_page.wait_for_function("document.querySelector('.rl')?.innerText === ''")
    run_page.keyboard.press("Control+v")
    run_page.keyboard.insert_text("bowl")
    run_page.wait_for_function(
        "whole => document.querySelector('.rl').innerText === whole", arg=whole
    )
    assert sorted(outlined(run_page)) == ["purple ball", "red bowl"]


def test_pointing_at_one_thing_and_at_another_writes_the_sentence(run_page: Any) -> None:
    type_in(run_page, "put the yellow ball in the red bowl")
    area = run_page.locator(".lv-picture").bounding_box()
    middles = {}
    for box in run_page.locator(".lv-outlines span").all():
        at = box.bounding_box()
        name = box.get_attribute("data-name")
        middles[name] = (at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        assert area["x"] <= middles[name][0] <= area["x"] + area["width"]
    run_page.fill("#instruction textarea", "")
    run_page.mouse.click(*middles["yellow ball"])
    run_page.wait_for_function(
        "document.querySelector('#instruction textarea').value === 'pick up the yellow ball'"
    )
    run_page.mouse.click(*middles["red bowl"])
    run_page.wait_for_function(
        "document.querySelector('#instruction textarea').value"
        " === 'put the yellow ball in the red bowl'"
    )
    run_page.click("#run")
    wait_for_phase(run_page, "success")
    assert "success" in run_page.get_attribute(LIVE, "data-events")
