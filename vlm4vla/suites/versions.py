"""Versions of what a simulated episode depends on."""

from importlib import metadata
from typing import Final

from vlm4vla import __version__
from vlm4vla.errors import UserError

_PACKAGES: Final = ("mani_skill", "sapien", "numpy")


def versions() -> dict[str, str]:
    """Versions of this package and of the simulator's, by package.

    Raises:
        UserError: the simulator is not installed.
    """
    try:
        found = {name: metadata.version(name) for name in _PACKAGES}
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"The simulator's package {error.name} is not installed, so nothing can be simulated.",
            "`vlm4vla doctor` says how to install it.",
        ) from error
    return {"vlm4vla": __version__} | found
