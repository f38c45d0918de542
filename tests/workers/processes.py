"""Watching processes end."""

import os
import time


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as status:
            if status.read().split()[2] == "Z":
                return True
        time.sleep(0.05)
    return False
