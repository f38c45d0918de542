"""Several checkpoints that one command measures."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from vlm4vla.errors import UserError

T = TypeVar("T")


def each_once(named: Iterable[T], identity: Callable[[T], tuple[str, str]]) -> list[T]:
    """Checkpoints in their order, each once however often it was named.

    Args:
        named: checkpoints.
        identity: the name that results are kept by, and the digest, of one.

    Raises:
        UserError: two different ones have one name, so one's results would replace the other's.
    """
    found: dict[str, T] = {}
    names: dict[str, str] = {}
    for one in named:
        name, digest = identity(one)
        if names.setdefault(name, digest) != digest:
            raise UserError(
                f"Two different checkpoints are called {name}, by which results are kept.",
                "Rename the folder of one of them, or measure them into different folders.",
            )
        found.setdefault(digest, one)
    return list(found.values())
