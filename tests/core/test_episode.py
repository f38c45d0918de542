import hashlib
import json
from dataclasses import replace

import numpy as np

from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Outcome,
    Times,
    Trace,
    episode_id,
    request_id,
)

SPEC = EpisodeSpec("toy", "go", 3, "go to the red corner", {"task": "go", "corner": "red"})
AGENTS = (AgentSpan(AgentId("policy", "0123", "a name")),)
VERSIONS = {"toy": "1", "numpy": "2.0"}


def episode(spec=SPEC, agents=AGENTS, versions=VERSIONS) -> Episode:
    return Episode(
        spec=spec,
        agents=agents,
        outcome=Outcome("success", "Done."),
        steps=0,
        events=(Event(0, "arrived"),),
        actions=np.zeros((0, 7), np.float32),
        predictions=(),
        trace=Trace.empty(),
        times=Times(),
        source="rollout",
        versions=versions,
    )


def test_a_specification_in_json():
    plain = {
        "suite": "toy",
        "task": "go",
        "seed": 3,
        "instruction": "go to the red corner",
        "goal": {"task": "go", "corner": "red"},
        "condition": {"words": "known"},
    }
    assert SPEC.to_json() == plain
    assert EpisodeSpec.from_json(json.loads(json.dumps(plain))) == SPEC
    branch = replace(
        SPEC,
        condition=Condition(perturbations=(Perturbation("drift", {"x": 1.5}),)),
        parent="ab" * 8,
        branch_step=6,
    )
    changed = {"words": "known", "perturbations": [{"name": "drift", "values": {"x": 1.5}}]}
    told = plain | {"condition": changed, "parent": "ab" * 8, "branch_step": 6}
    assert branch.to_json() == told
    assert EpisodeSpec.from_json(json.loads(json.dumps(told))) == branch


def sixteen(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_ids_are_hashes_of_this_text():
    """Spelled out: a change here makes every stored episode a stranger."""
    asked = (
        '[{"condition":{"words":"known"},"goal":{"corner":"red","task":"go"},'
        '"instruction":"go to the red corner","seed":3,"suite":"toy","task":"go"},'
        '[{"digest":"0123","first_step":0,"kind":"policy"}]]'
    )
    assert episode().request_id == sixteen(asked) == request_id(SPEC, AGENTS)
    whole = f'["{sixteen(asked)}",{{"numpy":"2.0","toy":"1"}}]'
    assert episode().id == sixteen(whole) == episode_id(SPEC, AGENTS, VERSIONS)


def test_the_same_again_is_the_same_and_a_name_or_what_happened_changes_nothing():
    renamed = (AgentSpan(AgentId("policy", "0123", "another name")),)
    turned = dict(reversed(VERSIONS.items()))
    goal = dict(reversed(SPEC.goal.items()))
    same = episode(replace(SPEC, goal=goal), renamed, turned)
    assert same.id == episode().id
    elsewhere = replace(
        episode(), source="live", steps=9, outcome=Outcome("stopped", ""), times=Times(3.0)
    )
    assert elsewhere.id == episode().id


def test_a_new_version_is_another_episode_of_the_same_request():
    newer = episode(versions={**VERSIONS, "toy": "2"})
    assert newer.request_id == episode().request_id
    assert newer.id != episode().id


def test_whatever_was_asked_otherwise_is_another_request():
    def asked(**changes):
        return episode(replace(SPEC, **changes)).request_id

    def under(**changes):
        return asked(condition=Condition(**changes))

    blur, later = Perturbation("blur"), Perturbation("blur", first_step=1)
    expert = AgentSpan(AgentId("expert", "expert"), 5)
    requests = [
        episode().request_id,
        asked(seed=4),
        asked(task="stay"),
        asked(suite="tabletop"),
        asked(instruction="go to the red corner!"),
        asked(goal={"task": "go", "corner": "blue"}),
        asked(parent="00" * 8),
        asked(parent="00" * 8, branch_step=2),
        asked(branch_step=2),
        under(goal="alternate"),
        under(words="trained"),
        under(max_steps=9),
        under(replan_every=1),
        under(perturbations=(blur,)),
        under(perturbations=(later,)),
        under(perturbations=(Perturbation("blur", {"sigma": 1.0}),)),
        under(perturbations=(Perturbation("blur", {"sigma": 2.0}),)),
        under(perturbations=(blur, later)),
        under(perturbations=(later, blur)),
        episode(agents=(AgentSpan(AgentId("policy", "4567")),)).request_id,
        episode(agents=(AgentSpan(AgentId("expert", "0123")),)).request_id,
        episode(agents=(*AGENTS, expert)).request_id,
        episode(agents=(*AGENTS, replace(expert, first_step=6))).request_id,
    ]
    assert len(set(requests)) == len(requests)
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in requests)


def test_who_acted_first_and_what_was_carried_out():
    both = episode(agents=(*AGENTS, AgentSpan(AgentId("expert", "expert"), 5)))
    assert both.agent == AgentId("policy", "0123")
    assert both.goal_task == "go"
    assert episode(replace(SPEC, goal={})).goal_task == "go"
    assert episode(replace(SPEC, goal={"task": "stay"})).goal_task == "stay"
    assert both.outcome.success and not Outcome("stopped", "").success
    assert (Trace.empty().joints.shape, Trace.empty().poses.shape) == ((0, 0), (0, 0, 7))
