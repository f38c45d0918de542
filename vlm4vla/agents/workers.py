"""How the workers of an evaluation come by a policy: by where it computes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from vlm4vla.agents.batched import BatchedAgent, Batcher
from vlm4vla.agents.policy import load_agent, single_threaded_agent
from vlm4vla.agents.remote import AgentProcess
from vlm4vla.core.agent import Agent
from vlm4vla.model.load import accelerator
from vlm4vla.model.policy import Policy


@contextmanager
def policy_workers(checkpoint: Path) -> Iterator[Callable[[], Agent]]:
    """What `vlm4vla.eval.evaluate.evaluate` makes its agents with.

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
                closing(AgentProcess(partial(single_threaded_agent, checkpoint)))
            )
        else:
            shared = load_agent(checkpoint)
            length = partial(_tokens, shared.policy)
            batcher = running.enter_context(closing(Batcher(shared.policy.act, length)))
            yield lambda: BatchedAgent(batcher, shared.identity, shared.action)


def _tokens(policy: Policy, instruction: str) -> int:
    """How many tokens the prompt of an instruction has."""
    return int(policy.prompt([instruction]).ids.shape[1])
