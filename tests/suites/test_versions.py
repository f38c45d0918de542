from importlib import metadata

import pytest

from vlm4vla.errors import UserError
from vlm4vla.suites.registry import SUITES
from vlm4vla.suites.versions import versions


def test_every_suite_names_what_it_simulates_with() -> None:
    for name in SUITES:
        assert SUITES.get(name).versions() == versions()
    assert versions()["sapien"] == metadata.version("sapien")


def test_without_the_simulator_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(UserError, match=r"mani_skill is not installed.*vlm4vla doctor"):
        versions()
