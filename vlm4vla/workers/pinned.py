"""A module run on one core, ended with its parent: `python -m vlm4vla.workers.pinned CORE MODULE`.

For commands that take hours, several at a time: each stays on its core with one thread, and whoever
kills the parent for good leaves none of them behind.
"""

import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment of a process that has one core; read when torch is loaded."""


def argv(core: int, module: str, words: Sequence[str]) -> list[str]:
    """The process that runs a module on a core.

    Args:
        core: number of the core.
        module: run as `python -m` would.
        words: its arguments.
    """
    parent = str(os.getpid())
    return [sys.executable, "-m", "vlm4vla.workers.pinned", str(core), parent, module, *words]


def environment() -> Mapping[str, str]:
    """The environment that such a process is started in."""
    return {**os.environ, **ONE_THREAD}


def main(words: Sequence[str]) -> None:
    """Keeps to the core, and runs the module; see `argv`."""
    core, parent, module, *rest = words
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != int(parent):
        # The parent ended before it could be told about.
        return
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
