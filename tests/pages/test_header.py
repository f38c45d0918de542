"""The bar on every page: the name, a key for each page, and the run that is carried along."""

from typing import Any

import pytest

from pages.site import PAGES
from tests.pages.conftest import LIVE, PATIENCE, Served

NAME = ".nav-holder .site-name"


def at(page: Any, path: str) -> None:
    page.wait_for_url(lambda url: url.split("?")[0].endswith(path))
    page.wait_for_selector(NAME)


def test_keys_open_the_pages_and_the_name_opens_run(page: Any, served: Served) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{served.url}about")
    page.wait_for_selector(NAME)
    # Gradio calls the first page Home until it knows better.
    page.wait_for_selector("nav >> text=Run")
    links = page.locator(".nav-holder nav a[title]")
    assert links.all_inner_texts() == ["Run", *[one.name for one in PAGES]]
    for number in range(1, 8):
        assert links.nth(number - 1).get_attribute("title") == f"Key {number}"
        assert links.nth(number - 1).get_attribute("aria-keyshortcuts") == str(number)
    page.keyboard.press("4")
    at(page, "/encoders")
    page.keyboard.press("8")
    page.keyboard.press("Control+3")
    page.keyboard.press("7")
    at(page, "/about")
    page.click(NAME)
    page.wait_for_selector(LIVE)
    assert page.url.rstrip("/") == served.url.rstrip("/")


def test_a_number_that_is_typed_stays_where_it_is_typed(page: Any, served: Served) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(served.url)
    page.wait_for_selector(LIVE)
    page.click("#instruction textarea")
    page.keyboard.press("End")
    page.keyboard.type(" 27")
    page.fill("#seed input", "")
    page.type("#seed input", "5")
    assert page.input_value("#instruction textarea").endswith(" 27")
    assert page.input_value("#seed input") == "5"
    assert page.url.rstrip("/") == served.url.rstrip("/")


@pytest.mark.parametrize(("path", "kept"), [("inspect", True), ("about", False)])
def test_a_run_goes_along_to_where_it_can_be_looked_at(
    page: Any, served: Served, path: str, kept: bool
) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{served.url}inspect?run=0123456789abcdef")
    page.wait_for_selector(NAME)
    page.keyboard.press("1")
    page.wait_for_selector(LIVE)
    assert page.url.endswith("?run=0123456789abcdef")
    page.click(f"nav >> text={path.title()}")
    at(page, f"/{path}")
    assert ("run=0123456789abcdef" in page.url) == kept


def test_no_page_is_cut_off_on_a_narrow_screen(page: Any, served: Served) -> None:
    page.set_default_timeout(PATIENCE)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{served.url}about")
    page.wait_for_selector(NAME)
    boxes = [one.bounding_box() for one in page.locator(".nav-holder nav a").all()]
    assert len(boxes) == 8
    for box in boxes:
        assert 0 <= box["x"] < box["x"] + box["width"] <= 390
        assert box["height"] >= 44
    # Two lines, not three.
    assert len({box["y"] for box in boxes}) == 2
