import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import waiting
from vlm4vla.agents import policy as policies
from vlm4vla.agents.catalogue import AgentCatalogue, label_of
from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Observation
from vlm4vla.errors import UserError
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    Policy.from_vlm("qwen3-vl:tiny").save_pretrained(folder / "b")
    return folder


def test_without_checkpoints_the_expert_acts(tmp_path: Path) -> None:
    catalogue = AgentCatalogue(roots=[tmp_path / "nothing here"])
    assert catalogue.names() == ["expert"]
    entry = catalogue.entry("")
    assert (entry.name, entry.identity, entry.folder) == ("expert", EXPERT, None)
    assert (entry.chunk, entry.replan_every) == (4, 4)
    agents = [entry.new_agent() for _ in range(2)]
    assert agents[0] is not agents[1] and agents[0].identity == EXPERT
    assert "scripted expert" in label_of(EXPERT)


def test_a_checkpoint_that_appears_is_found_and_becomes_the_first(
    root: Path, tmp_path: Path
) -> None:
    catalogue = AgentCatalogue(roots=[tmp_path])
    assert catalogue.names() == ["expert"]
    (tmp_path / "b").symlink_to(root / "b")
    assert catalogue.names() == ["b", "expert"]
    assert not catalogue.loaded("")
    entry = catalogue.entry("")
    digest = checkpoint_hash(root / "b")
    assert (entry.identity, entry.identity.name) == (AgentId("policy", digest), "b")
    assert entry.folder == tmp_path / "b"
    assert catalogue.loaded("b")
    assert catalogue.entry("b") is entry
    assert catalogue.name_of(digest) == "b"
    assert catalogue.name_of("0" * 16) == ""
    assert catalogue.name_of("expert") == "expert"
    agents = [entry.new_agent() for _ in range(2)]
    assert agents[0] is not agents[1]
    for agent in agents:
        assert agent.identity.name == "b"
        assert agent.replan_every == entry.replan_every == 4 == entry.chunk
    assert label_of(entry.identity) == f"b, hash {digest[:12]}"
    assert label_of(AgentId("policy", digest)) == f"a policy, hash {digest[:12]}"


@pytest.mark.parametrize("name", ["..", "../b", "/etc", "c", 7, ["b"], {"b": 1}, "b/"])
def test_a_name_reaches_nothing_but_what_is_listed(root: Path, name: Any) -> None:
    with pytest.raises(UserError, match="no such agent"):
        AgentCatalogue(roots=[root]).entry(name)


def test_a_damaged_checkpoint_is_refused_and_the_expert_still_acts(
    root: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in (root / "b").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[:-1])
    catalogue = AgentCatalogue(roots=[tmp_path])
    with pytest.raises(UserError, match="damaged"):
        catalogue.entry("")
    assert catalogue.name_of("0" * 16) == ""
    assert catalogue.evaluation("damaged") == {}
    assert catalogue.entry("expert").identity == EXPERT


def test_only_the_newest_two_stay_in_memory_and_a_new_save_is_loaded_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        for file in (root / "b").iterdir():
            os.link(file, tmp_path / name / file.name)
    catalogue = AgentCatalogue(roots=[tmp_path])
    first = catalogue.entry("a")
    for name in "bca":
        catalogue.entry(name)
    assert [catalogue.loaded(name) for name in "abc"] == [True, False, True]
    assert catalogue.entry("a") is not first
    again = catalogue.entry("a")
    os.utime(tmp_path / "a" / "policy.json", (1, 1))
    assert catalogue.entry("a") is not again


def test_the_evaluation_is_read_from_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    manifest = tmp_path / "a" / "policy.json"
    catalogue = AgentCatalogue(roots=[tmp_path])
    for content, found in (
        ({"evaluation": {"tasks": {}}}, {"tasks": {}}),
        ({"evaluation": []}, {}),
        ({}, {}),
        ([], {}),
    ):
        manifest.write_text(json.dumps(content))
        assert catalogue.evaluation("a") == found
    assert catalogue.evaluation("expert") == {}


def test_a_name_or_a_path_leads_to_a_folder(root: Path, tmp_path: Path) -> None:
    catalogue = AgentCatalogue(roots=[root])
    assert catalogue.folder("b") == root / "b" == catalogue.folder(str(root / "b"))
    with pytest.raises(UserError, match=r"no checkpoint c\. Name a folder, or one of b\."):
        catalogue.folder("c")
    with pytest.raises(UserError, match="the shipped ones"):
        AgentCatalogue(roots=[tmp_path]).folder("b")


def test_a_checkpoint_is_loaded_once_however_many_ask(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []
    load = policies.load_agent

    def counted(folder: Path) -> policies.PolicyAgent:
        loads.append(folder)
        return load(folder)

    monkeypatch.setattr(policies, "load_agent", counted)
    catalogue = AgentCatalogue(roots=[root])
    image = np.zeros((128, 128, 3), np.uint8)
    seen = Observation(0, {"policy": image}, np.zeros(4, np.float32))
    answers: list[tuple[str, Any]] = []

    def visit(sentence: str) -> None:
        agent = catalogue.entry("b").new_agent()
        agent.reset(sentence)
        answers.append((sentence, agent.act(seen)))

    sentences = ["pick up the red cube", "push it"] * 4
    threads = [threading.Thread(target=visit, args=(sentence,)) for sentence in sentences]
    for thread in threads:
        thread.start()
    waiting.join(threads, 120)
    assert loads == [root / "b"] and len(answers) == 8
    for sentence in set(sentences):
        same = [chunk for said, chunk in answers if said == sentence]
        assert all(np.array_equal(chunk, same[0]) for chunk in same)
