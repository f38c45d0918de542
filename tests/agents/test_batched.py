import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.waiting import until
from vlm4vla import action
from vlm4vla.agents.batched import FILLER, BatchedAgent, Batcher
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Observation
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.model.prompt import token_ids
from vlm4vla.suites.tabletop.instructions import paraphrases
from vlm4vla.suites.tabletop.scene import TASKS, sample_episode
from vlm4vla.train.objectives.language import make_backbone


class Recorder:
    """A policy whose every action is its picture's brightness plus the sentence's length."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.fails = False

    def act(self, images, instructions):
        self.batches.append(list(instructions))
        self.hold.wait(10)
        if self.fails:
            raise UserError("Out of memory.")
        values = [
            image.mean() + len(text) for image, text in zip(images, instructions, strict=True)
        ]
        return np.tile(np.float32(values)[:, None, None], (1, 4, 7))


def picture(brightness):
    return np.full((8, 8, 3), brightness, np.uint8)


def asked(policy):
    """The sentences of each batch that somebody asked for."""
    return [sorted(text for text in batch if text != FILLER) for batch in policy.batches]


def all_waiting(batcher, count):
    until(lambda: batcher._requests.qsize() == count, 10, batcher._requests.qsize)


def test_requests_that_wait_are_answered_in_one_call_each_with_its_own():
    policy = Recorder()
    batcher = Batcher(policy.act, len, rows=6)
    policy.hold.clear()
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(batcher.act, picture(9), "go")
        until(lambda: policy.batches, 10)
        others = [threads.submit(batcher.act, picture(10 * i), "a" * i) for i in range(1, 5)]
        all_waiting(batcher, 4)
        policy.hold.set()
        assert first.result().shape == (4, 7) and first.result()[0, 0] == 11
        assert [other.result()[3, 6] for other in others] == [11, 22, 33, 44]
    batcher.close()
    assert asked(policy) == [["go"], ["a", "aa", "aaa", "aaaa"]]
    assert [len(batch) for batch in policy.batches] == [6, 6]


def test_more_requests_than_a_batch_holds_are_answered_in_turn():
    policy = Recorder()
    batcher = Batcher(policy.act, len, rows=3)
    with ThreadPoolExecutor(7) as threads:
        found = list(threads.map(lambda i: batcher.act(picture(i), "x")[0, 0], range(7)))
    batcher.close()
    assert found == [1, 2, 3, 4, 5, 6, 7]
    assert all(len(batch) == 3 and batch[-1] == FILLER for batch in policy.batches)


def test_a_sentence_longer_than_the_filler_is_answered_alone():
    policy, long = Recorder(), "a" * (len(FILLER) + 1)
    policy.hold.clear()
    batcher = Batcher(policy.act, len, rows=6)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(batcher.act, picture(0), "go")
        until(lambda: policy.batches, 10)
        others = [threads.submit(batcher.act, picture(1), text) for text in ("b", long, "bb")]
        all_waiting(batcher, 3)
        policy.hold.set()
        assert first.result()[0, 0] == 2
        assert [other.result()[0, 0] for other in others] == [2, len(long) + 1, 3]
    batcher.close()
    # With it in their batch, the others' rows would be of another length, and round otherwise.
    assert asked(policy) == [["go"], ["b", "bb"], [long]]
    assert [len(batch) for batch in policy.batches] == [6, 6, 6]


def test_a_sentence_that_cannot_be_read_is_told_to_who_said_it():
    def length(sentence):
        if sentence == "bad":
            raise UserError("An instruction holds half a character.")
        return len(sentence)

    policy = Recorder()
    batcher = Batcher(policy.act, length, rows=3)
    with pytest.raises(UserError, match="half a character"):
        batcher.act(picture(0), "bad")
    assert batcher.act(picture(0), "go")[0, 0] == 2
    batcher.close()
    assert asked(policy) == [["go"]]


def test_an_error_of_the_policy_reaches_everybody_who_waits_and_nobody_else():
    policy = Recorder()
    policy.fails = True
    policy.hold.clear()
    batcher = Batcher(policy.act, len, rows=6)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(batcher.act, picture(0), "go")
        until(lambda: policy.batches, 10)
        waiting = [threads.submit(batcher.act, picture(0), "go") for _ in range(3)]
        all_waiting(batcher, 3)
        policy.hold.set()
        for one in (first, *waiting):
            with pytest.raises(UserError, match="Out of memory"):
                one.result(10)
    policy.fails = False
    assert batcher.act(picture(1), "go")[0, 0] == 3
    batcher.close()


def test_a_policy_that_answers_too_few_rows_is_noticed():
    batcher = Batcher(lambda images, instructions: np.zeros((0, 4, 7), np.float32), len, rows=2)
    with pytest.raises(ValueError, match="shorter"):
        batcher.act(picture(0), "go")
    batcher.close()


def test_closing_answers_what_was_asked_and_refuses_the_rest():
    policy = Recorder()
    policy.hold.clear()
    batcher = Batcher(policy.act, len, rows=2)
    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(batcher.act, picture(0), "go") for _ in range(3)]
        until(lambda: policy.batches, 10)
        all_waiting(batcher, 2)
        closing = threads.submit(batcher.close)
        policy.hold.set()
        assert [one.result(10)[0, 0] for one in asking] == [2, 2, 2]
        closing.result(10)
    assert not batcher._thread.is_alive()
    with pytest.raises(UserError, match="shut down"):
        batcher.act(picture(0), "go")


def test_an_agent_asks_with_its_own_sentence_and_its_own_camera():
    policy = Recorder()
    batcher = Batcher(policy.act, len, rows=2)
    identity = AgentId("policy", "0123", "stand-in")
    agent, other = (
        BatchedAgent(batcher, identity, action.tiny()),
        BatchedAgent(batcher, identity, action.tiny(execute=2), "top"),
    )
    assert (agent.identity, agent.replan_every, agent.cameras) == (identity, 4, ("policy",))
    assert (other.replan_every, other.cameras) == (2, ("top",))
    agent.reset("lift it")
    other.reset("push it away")
    images = {"policy": picture(5), "top": picture(50)}
    seen = Observation(0, images, np.zeros(0, np.float32))
    assert agent.act(seen)[0, 0] == 5 + len("lift it")
    assert other.act(seen)[0, 0] == 50 + len("push it away")
    agent.reset("lift")
    assert agent.act(seen)[0, 0] == 5 + len("lift")
    batcher.close()


@pytest.fixture(scope="module")
def policy():
    sizes = {"vision_layers": 3, "vision_width": 80, "language_layers": 3, "language_width": 80}
    return Policy(make_backbone(**sizes), action.tiny(), query_init="embedding").eval()


def test_a_row_is_the_same_to_the_last_bit_whoever_else_asks(policy):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    texts = ["pick up the red cube", "touch the green ball", "go and lift the blue cylinder please"]
    batcher = Batcher(policy.act, len, rows=4, wait=0.0)
    alone = [batcher.act(image, text) for image, text in zip(images, texts, strict=True)]
    batcher.close()
    batcher = Batcher(policy.act, len, rows=4, wait=5.0)
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(batcher.act, images, texts))
    batcher.close()
    for one, two in zip(alone, together, strict=True):
        assert np.array_equal(one, two)
    assert np.abs(policy.act(images[:1], texts[:1])[0] - alone[0]).max() < 1e-4


def test_the_filler_is_longer_than_every_sentence_of_the_suite(policy):
    tokenizer = policy.vlm.tokenizer
    sentences = [
        sentence
        for task in TASKS
        for goal in sample_episode(task, 1).scene.goals(task)
        for held_out in (False, True)
        for sentence in paraphrases(goal, held_out=held_out)
    ]
    longest = max(len(token_ids(tokenizer, sentence)) for sentence in sentences)
    assert len(sentences) > 50 and longest < len(token_ids(tokenizer, FILLER))
