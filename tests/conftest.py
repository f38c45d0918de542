"""What all tests share: a data folder of their own, no network, and a browser."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from vlm4vla.system import chromium, vulkan

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

LOCAL = ("127.0.0.1", "localhost", "::1")

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing but this machine is found.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]",
]


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps the tests out of the user's data folder, and leaves them its Vulkan driver."""
    folder = tmp_path_factory.mktemp("home")
    if (driver := vulkan.private_folder()).exists():
        (folder / "vulkan").symlink_to(driver)
    os.environ["VLM4VLA_HOME"] = str(folder)
    os.environ.pop("VLM4VLA_LOCAL", None)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Fails whatever asks for a host other than this one."""
    patch = pytest.MonkeyPatch()
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in LOCAL:
            raise AssertionError(f"a test asked for {address}")
        connect(self, address)

    patch.setattr(socket.socket, "connect", guarded)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def tabletop() -> Iterator[Any]:
    """The suite's simulator in this process: a `vlm4vla.suites.tabletop.env.Tabletop`."""
    from vlm4vla.suites.tabletop.env import Tabletop

    vulkan.ensure_driver()
    simulator = Tabletop()
    yield simulator
    simulator.close()


@pytest.fixture(scope="session")
def environment() -> Iterator[Any]:
    """The suite as a `vlm4vla.core.environment.Environment` in this process."""
    from vlm4vla.suites.registry import TABLETOP

    opened = TABLETOP.open()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, headless, for the whole run: a Playwright `Browser`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = chromium.executable() or None
        running = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty tab: a Playwright `Page`. The test fails if the tab asks for another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    outside: list[str] = []

    # A route would ask this process about every request, and keep the browser from caching.
    def check(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and parts.hostname not in LOCAL:
            outside.append(request.url)

    context.on("request", check)
    yield context.new_page()
    context.close()
    assert not outside, f"the page asked for {outside}"
