"""Named things: one registry pattern for tasks, families, stages and commands."""

import difflib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from vlm4vla.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to objects whose errors list the valid names.

    Args:
        kind: what the registry holds, in the singular, for messages ("task", "family").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Registers `item`; a name can be taken once.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._items:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._items[name] = item
        return item

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of `add`."""
        return lambda item: self.add(name, item)

    def get(self, name: str) -> T:
        """Returns the item called `name`.

        Raises:
            UserError: nothing has that name; the message lists the names and the closest one.
        """
        if name in self._items:
            return self._items[name]
        close = difflib.get_close_matches(name, self._items, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"Unknown {self.kind} {name!r}; known: {', '.join(self._items)}.", hint)

    def names(self, pattern: str = "*") -> list[str]:
        """Names in registration order that match a shell pattern."""
        return [name for name in self._items if fnmatchcase(name, pattern)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items
