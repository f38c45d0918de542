"""`vlm4vla.system.memory`."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

# `malloc_info` writes one <heap> for every arena.
THREADS = """
import ctypes, sys, threading
from vlm4vla.system import memory
if sys.argv[1] == "share":
    assert memory.share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.fopen.restype = ctypes.c_void_p
meet = threading.Barrier(12)
def allocate():
    meet.wait()
    libc.malloc(1000)
    meet.wait()
threads = [threading.Thread(target=allocate) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def arenas(how: str, file: Path) -> int:
    subprocess.run([sys.executable, "-c", THREADS, how, str(file)], check=True, timeout=120)
    return file.read_text("utf-8").count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_twelve_threads_share_two_arenas(tmp_path: Path) -> None:
    assert arenas("share", tmp_path / "shared") == 2
    assert arenas("leave", tmp_path / "left") > 2


FREED = """
import psutil
from vlm4vla.system import memory
size = psutil.Process().memory_info
kept, freed = [], []
for _ in range(2_000):
    freed.append(b"a" * 100_000)
    # What is kept behind it holds the heap's end where it is.
    kept.append(b"a" * 2_000)
del freed
before = size().rss
assert memory.give_back()
print(before - size().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such a heap")
def test_what_is_free_between_kept_blocks_is_given_back() -> None:
    told = subprocess.run(
        [sys.executable, "-c", FREED], check=True, timeout=120, capture_output=True, text=True
    )
    # 200 MB were freed, less a page at each end of a block.
    assert int(told.stdout) > 150_000_000


LARGE = """
import sys
import psutil
from vlm4vla.system import memory
if sys.argv[1] == "map":
    assert memory.map_large_blocks()
size = psutil.Process().memory_info
# Freed, it raises glibc's own bound.
large = b"a" * 30_000_000
del large
kept, freed = [], []
for _ in range(300):
    freed.append(b"a" * 500_000)
    # What is kept behind it holds the heap's end where it is.
    kept.append(b"a" * 20_000)
before = size().rss
del freed
print(before - size().rss)
"""


def freed_of_150_megabytes(how: str) -> int:
    told = subprocess.run(
        [sys.executable, "-c", LARGE, how], check=True, timeout=120, capture_output=True, text=True
    )
    return int(told.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such a bound")
def test_large_blocks_go_back_even_after_a_larger_one() -> None:
    assert freed_of_150_megabytes("map") > 140_000_000
    assert freed_of_150_megabytes("leave") < 10_000_000


POOL = """
import os
from vlm4vla.system import memory
memory.one_allocator()
import pyarrow
print(pyarrow.default_memory_pool().backend_name, os.environ["ARROW_DEFAULT_MEMORY_POOL"])
"""


@pytest.mark.parametrize(
    ("chosen", "told"),
    [({}, "system system"), ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, "mimalloc mimalloc")],
)
def test_arrow_allocates_as_everybody_does_unless_told_otherwise(
    chosen: dict[str, str], told: str
) -> None:
    known = {k: v for k, v in os.environ.items() if k != "ARROW_DEFAULT_MEMORY_POOL"}
    said = subprocess.run(
        [sys.executable, "-c", POOL],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
        env=known | chosen,
    )
    assert said.stdout.strip() == told


def test_the_app_imports_no_arrow_before_its_allocator_is_chosen() -> None:
    look = "import sys, app; assert 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", look], check=True, timeout=120)
