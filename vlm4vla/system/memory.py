"""What glibc's allocator keeps of freed memory, and how it is given back."""

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8
_M_MMAP_THRESHOLD: Final = -3
"""<malloc.h>"""

ARENAS: Final = 2
"""A server has some forty threads. glibc gives them eight arenas a core, each of which keeps what
its busiest moment took. Ten minutes of twenty visitors added 242 MB, and 120 MB with two arenas (a
run each)."""


LARGE: Final = 256 * 1024
"""Bytes. glibc raises its own bound to the size of the largest block that was freed, up to 32 MB,
and takes later ones below it from an arena, where a small block that outlives them holds theirs."""


def share_arenas(most: int = ARENAS) -> bool:
    """Lets all threads allocate from a few arenas; call it before other threads are started.

    Args:
        most: how many.

    Returns:
        Whether the C library took it: only glibc has arenas.
    """
    return _set(_M_ARENA_MAX, most)


def map_large_blocks(least: int = LARGE) -> bool:
    """Lets large blocks come from the system and go back to it when they are freed.

    Args:
        least: bytes of a large block.

    Returns:
        Whether the C library took it, as glibc does.
    """
    return _set(_M_MMAP_THRESHOLD, least)


def _set(option: int, value: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(option, value))


def give_back() -> bool:
    """Gives what is free within the heap back to the system, which `free` does at its end alone.

    Returns:
        Whether there was something, as glibc tells; False elsewhere.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    return bool(trim(0))
