"""How the workers of an evaluation come by a policy: by where it computes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import torch

from vlm4vla.driver import Driver
from vlm4vla.eval.batched import BatchedDriver, Batcher
from vlm4vla.eval.policy_driver import PolicyDriver, load_driver
from vlm4vla.eval.process import DriverProcess
from vlm4vla.model.load import accelerator


@contextmanager
def policy_drivers(checkpoint: Path) -> Iterator[Callable[[], Driver]]:
    """What `try_cases` makes its drivers with.

    On a CPU every worker gets a policy of its own, in a process of its own with one thread. On an
    accelerator all share one, which answers them in batches.

    Args:
        checkpoint: a checkpoint folder.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    with ExitStack() as running:
        if accelerator() == "cpu":
            yield lambda: running.enter_context(
                closing(DriverProcess(partial(single_threaded_driver, checkpoint)))
            )
        else:
            shared = load_driver(checkpoint)
            batcher = running.enter_context(closing(Batcher(shared.policy.act)))
            yield lambda: BatchedDriver(batcher, shared.execute, shared.label)


def single_threaded_driver(checkpoint: Path) -> PolicyDriver:
    """A policy that uses one thread of this process; the setting is the whole process's.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    torch.set_num_threads(1)
    return load_driver(checkpoint)
