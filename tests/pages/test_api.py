"""The public endpoints, called as a program calls them."""

from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests import waiting
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import Served, serve
from vlm4vla.agents.catalogue import Entry
from vlm4vla.live.queue import Queue


@pytest.fixture(scope="module")
def client(served: Served) -> Client:
    return Client(served.url, verbose=False)


def test_an_instruction_of_the_list_is_carried_out_and_stored(client: Client) -> None:
    sentences = client.predict("pick", 3, api_name="/instructions")
    assert len(sentences) >= 3
    told = client.predict("pick", 3, sentences[0], api_name="/run_episode")
    assert told["outcome"] == "success"
    assert told["happenings"][-1] == [told["steps"], "success"]
    again = client.predict("pick", 3, sentences[0], api_name="/run_episode")
    assert again == told
    assert client.predict(told["run_id"], api_name="/stored_episode") == told
    [driver] = client.predict(api_name="/drivers")
    changed = client.predict(
        "pick", 3, sentences[0], driver, most_steps=6, execute=1, api_name="/run_episode"
    )
    assert (changed["steps"], changed["condition"]) == (6, "at most 6 steps, 1 action an inference")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pick", 3, ""), "no instruction"),
        (("pick", 3, "fly to the moon"), "nearest that is"),
        (("pick", 3, "x" * 201), "201 characters"),
        (("pick", 3, "a\x00b"), "U\\+0000"),
        (("pick", -1, "lift it"), "0 to 199,999"),
        (("pick", 1e300, "lift it"), "0 to 199,999"),
        (("../pick", 3, "lift it"), "no such task"),
    ],
)
def test_what_cannot_be_run_is_a_clean_error(
    client: Client, arguments: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(AppError, match=said):
        client.predict(*arguments, api_name="/run_episode")


class Unlucky(FakeCatalogue):
    """A checkpoint that cannot be loaded for a reason that nobody foresaw."""

    def entry(self, name: object) -> Entry:
        raise RuntimeError("out of luck")


def test_a_surprise_while_a_checkpoint_is_loaded_is_told_in_a_sentence() -> None:
    with serve(FakeSimulators(), Unlucky()) as url:
        program = Client(url, verbose=False)
        with pytest.raises(AppError, match=r"ended by a mistake .*\(RuntimeError: out of luck\)"):
            program.predict("pick", 3, "lift the orange cylinder", api_name="/run_episode")


def held(queue: Queue) -> int:
    return len(queue._inside) + len(queue._waiting)


def test_one_address_has_a_share_of_the_queue_whichever_door_it_comes_through() -> None:
    simulators = FakeSimulators()
    simulators.queue = Queue(places=1, longest=9, share=1)
    simulators.gate.clear()
    with serve(simulators, FakeCatalogue()) as url:
        asked = ("pick", 0, "lift the orange cylinder")
        programs = [Client(url, verbose=False) for _ in range(3)]
        try:
            for number, program in enumerate(programs[:2]):
                program.submit(*asked, api_name="/run_episode")
                waiting.until(lambda number=number: held(simulators.queue) == number + 1, 60)
            with pytest.raises(AppError, match="1 episodes of your address are waiting already"):
                programs[2].predict(*asked, api_name="/run_episode")
        finally:
            simulators.gate.set()


def test_only_the_documented_endpoints_are_public(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/drivers", "/instructions", "/run_episode", "/stored_episode"}
