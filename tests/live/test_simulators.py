from typing import Any

import pytest

from vlm4vla.errors import UserError
from vlm4vla.live.simulators import Simulators
from vlm4vla.system import doctor
from vlm4vla.system.doctor import Check


class BrokenPool:
    """No simulator ever starts."""

    def __init__(self, suite: Any, **_: Any) -> None:
        self.tried = 0

    def acquire(self, timeout: float) -> Any:
        self.tried += 1
        raise UserError("The simulator did not start.", "Try again.")

    def close(self) -> None:
        pass


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Simulators:
    monkeypatch.setattr("vlm4vla.live.simulators.EnvironmentPool", BrokenPool)
    return Simulators(places=1)


def test_without_a_renderer_the_doctor_says_why(
    broken: Simulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Check("Vulkan", "fail", "no driver answers", "vlm4vla doctor --fix")]
    monkeypatch.setattr(doctor, "check_renderer", lambda: found)
    assert broken.readiness.status == "starting"
    broken.open()
    readiness = broken.wait(30)
    assert readiness.status == "unavailable"
    assert readiness.reason == "The simulator cannot render here (Vulkan): no driver answers"
    assert readiness.fix == "Run `vlm4vla doctor --fix`."


def test_what_the_doctor_does_not_know_is_told_as_it_is(
    broken: Simulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "check_renderer", lambda: [Check("Vulkan", "ok", "")])
    broken.open()
    assert broken.wait(30).reason == "The simulator did not start."
