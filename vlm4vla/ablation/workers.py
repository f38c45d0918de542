"""How the workers of an ablation come by a policy, with the layers that perturb it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from vlm4vla.ablation.agent import PerturbedAgent
from vlm4vla.agents.remote import AgentProcess
from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import Condition


@contextmanager
def perturbed_workers(
    checkpoint: Path, conditions: Sequence[Condition]
) -> Iterator[Callable[[], Agent]]:
    """What `vlm4vla.eval.evaluate.evaluate` makes its agents with.

    What is skipped inside a policy would be skipped for everybody who shares it, so every worker
    has then a policy of its own; else see `vlm4vla.agents.workers.policy_workers`.

    Args:
        checkpoint: a checkpoint folder.
        conditions: of the episodes.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder, or lacks a part that is to be
            skipped.
    """
    # They take seconds: torch.
    from vlm4vla.ablation.inside import INSIDE, changed, changed_agent
    from vlm4vla.agents.policy import load_agent
    from vlm4vla.agents.workers import policy_workers

    changes = [change for condition in conditions for change in condition.perturbations]
    with ExitStack() as running:
        if inside := [change for change in changes if change.name in INSIDE]:
            policy = load_agent(checkpoint).policy
            for change in inside:
                with changed(policy, [change]):
                    pass
            yield lambda: PerturbedAgent(
                running.enter_context(closing(AgentProcess(partial(changed_agent, checkpoint))))
            )
        else:
            make_agent = running.enter_context(policy_workers(checkpoint))
            yield lambda: PerturbedAgent(make_agent())
