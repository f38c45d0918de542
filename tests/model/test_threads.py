"""One policy, called from several threads at once."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.head import ActionHead
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import save_vlm

THREADS = 4
WORDS = ["pick up the red cube", "push the blue ball into the yellow zone", "go", "lift it please"]


def together(work):
    """Runs `work(k)` in as many threads, all begun at the same moment."""
    start = threading.Barrier(THREADS)

    def begin(k):
        start.wait(60)
        return work(k)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_four_threads_get_what_one_gets(name, small, pictures):
    policy = Policy(small(name), action.tiny(), query_init="embedding").eval()
    alone = [policy.act(pictures[k, None], [WORDS[k]]) for k in range(THREADS)]
    assert len({chunk.tobytes() for chunk in alone}) == THREADS

    def work(k):
        return [policy.act(pictures[k, None], [WORDS[k]]) for _ in range(10)]

    for k, found in enumerate(together(work)):
        for chunk in found:
            np.testing.assert_array_equal(chunk, alone[k])


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_call_leaves_nothing_on_the_vlm(name, small, pictures):
    policy = Policy(small(name), action.tiny()).eval()
    policy.act(pictures[:1], ["go"])  # sinusoids and the like are made at the first call
    before = {path: dict(vars(module)) for path, module in policy.base.named_modules()}
    policy.act(pictures[1:3], WORDS[:2])
    changed = {
        (path, key)
        for path, module in policy.base.named_modules()
        for key, value in vars(module).items()
        if before[path].get(key, before) is not value
    }
    # Where generation would go on; nothing reads it when a call begins anew, as the next test says.
    assert changed <= {("", "rope_deltas")}


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "qwen3-vl-moe"])
def test_positions_left_by_another_call_are_not_read(name, small, pictures):
    policy = Policy(small(name), action.tiny()).eval()
    clean = policy.act(pictures, WORDS)
    policy.base.rope_deltas = torch.full((3, 1), 77)
    np.testing.assert_array_equal(policy.act(pictures, WORDS), clean)


def test_loading_in_threads_gives_every_policy_its_weights(small, tmp_path):
    save_vlm(small(), tmp_path)
    first = load_vlm(tmp_path, device="cpu").base.state_dict()
    heads = []

    def work(k):
        if k % 2:
            # Its initialisers are exchanged for empty ones while another thread loads.
            heads.append(Policy(small(), action.tiny()).head)
            return first
        return load_vlm(tmp_path, device="cpu").base.state_dict()

    for weights in itertools.chain.from_iterable(together(work) for _ in range(3)):
        assert all(torch.equal(first[name], weights[name]) for name in first)
    for head in heads:
        assert isinstance(head, ActionHead)
        assert not head.trunk[0].bias.any()
        bound = (6 / sum(head.trunk[0].weight.shape)) ** 0.5
        assert 0.9 * bound < head.trunk[0].weight.abs().max() <= bound
