"""What allocators keep of freed memory, and how little of it they can keep."""

import ctypes
import os
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


def one_allocator() -> None:
    """Lets Arrow allocate as everybody does; call it before pyarrow is imported.

    Arrow, by which pandas keeps words, brings an allocator that keeps a heap for every thread that
    ever used it: it held 20 MB more after two minutes of visitors, of 88 kB that were in use at
    most. Who has chosen one, chooses.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


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
