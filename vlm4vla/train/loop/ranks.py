"""Means over everything that the processes of a run hold together."""

import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """The mean of a loss whose samples are spread unevenly over processes.

    Data parallelism averages gradients over processes as if each held as many samples. Here a
    process's sum is divided by the count of all of them and multiplied by their number, so that
    the average of gradients is the gradient of the mean.

    Args:
        total: this process's sum, a scalar with a gradient.
        count: how many samples it is of, a scalar; none at all gives 0.
    """
    count = count.detach().float()
    if not (dist.is_available() and dist.is_initialized()):
        return total / count.clamp(min=1e-6)
    everywhere = count.clone()
    dist.all_reduce(everywhere)
    return total * (dist.get_world_size() / everywhere.clamp(min=1e-6))
