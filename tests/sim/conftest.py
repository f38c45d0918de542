from collections.abc import Iterator

import pytest

from vlm4vla.sim.env import Tabletop
from vlm4vla.system.vulkan import ensure_driver


@pytest.fixture(scope="session")
def tabletop() -> Iterator[Tabletop]:
    ensure_driver()
    simulator = Tabletop()
    yield simulator
    simulator.close()
