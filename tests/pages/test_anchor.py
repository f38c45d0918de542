"""An address that names a section shows it, also where what stands above is drawn later."""

from typing import Any

import pytest

from tests.pages.conftest import PATIENCE, Served

TOP = "document.querySelector('{}')?.getBoundingClientRect().top"
# The last section of a short page cannot come to the top.
SEEN = f"scrollY > 0 && {TOP} > -2 && {TOP} < 0.8 * innerHeight"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("about#cite", "#cite"),
        ("compare#duet", "#duet"),
        ("ablations#parts", "#parts"),
        ("ablations#studies", "#studies"),
    ],
)
def test_what_an_address_names_is_in_sight(
    page: Any, served: Served, path: str, place: str
) -> None:
    page.set_default_timeout(PATIENCE)
    page.set_viewport_size({"width": 390, "height": 500})
    page.goto(f"{served.url}{path}")
    page.wait_for_function(SEEN.replace("{}", place))
    # As if what stands above were drawn now.
    push = "document.querySelector('.gradio-container').style.paddingTop = '{}px'"
    page.evaluate(push.format(700))
    page.wait_for_function(SEEN.replace("{}", place))
    # Who scrolls is not brought back.
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"{TOP.format(place)} > 250")
    page.evaluate(push.format(1400))
    page.wait_for_function(f"{TOP.format(place)} > 900")
