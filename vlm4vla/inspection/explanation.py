"""Explanations of inferences: which cells of the picture and which words the action comes from.

Torch is imported only when something is explained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlm4vla.ablation.given import given_sentence, unrepeatable
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.core.episode import AgentId, Episode, Prediction
from vlm4vla.core.observation import Image
from vlm4vla.errors import UserError
from vlm4vla.inspection.kinds import USUAL, MapKind
from vlm4vla.inspection.lanes import COMMAND_MM
from vlm4vla.inspection.pictures import Picture
from vlm4vla.inspection.shelf import Arrays, Shelf

if TYPE_CHECKING:
    from vlm4vla.model.policy import Policy


@dataclass(frozen=True)
class Explanation:
    """What one inference depends on, by a map of some kind and word by word.

    Attributes:
        step: the control step that it was made at.
        cells: (8, 8) signed scores in the unit of the kind, see `vlm4vla.inspection.kinds`.
        words: the words of the sentence, as the policy reads it.
        bars: (words,) what of the target's value goes if a word is left out, in its unit.
        turned: (words,) millimetres between where the first action ends with and without a word,
            whatever the target.
        apart: millimetres between the first action that was predicted then and the one that the
            policy predicts now from the picture drawn again.
        layers: (n, 8, 8) an attention map layer by layer, of which `cells` is the mean; n is 0
            for other methods.
    """

    step: int
    cells: NDArray[np.float64]
    words: tuple[str, ...]
    bars: NDArray[np.float64]
    turned: NDArray[np.float64]
    apart: float
    layers: NDArray[np.float64]


def policy_of(catalogue: AgentCatalogue, episode: Episode) -> "Policy":
    """The policy that acted in an episode, with the very weights that it had.

    Raises:
        UserError: no policy acted, its checkpoint is not here, or what it saw cannot be drawn.
    """
    agent = explained_agent(episode)
    if agent is None:
        raise UserError(
            "No policy acted, so there is no map and no word bar.",
            "The expert reads positions, not pictures.",
        )
    if changed := unrepeatable(episode.spec.condition.perturbations):
        raise UserError(
            f"The policy itself was changed ({', '.join(changed)}), which is not repeated here, "
            "so no map is made.",
            "Inspect the same scene without the change.",
        )
    try:
        name = catalogue.name_of(agent.digest)
        if not name:
            raise UserError(
                f"The checkpoint that acted (hash {agent.digest}) is not here, so there are no "
                "maps and no word bars.",
                "Put its folder among the `checkpoints` of the data folder.",
            )
        from vlm4vla.agents.policy import PolicyAgent  # takes seconds: torch

        acting = catalogue.entry(name).new_agent()
    except ImportError as error:
        raise UserError(
            f"Maps and word bars need the package {error.name}, which is not installed here.",
            "Install the requirements.",
        ) from error
    assert isinstance(acting, PolicyAgent), "a checkpoint's agent is a policy"
    return acting.policy


def explained_agent(episode: Episode) -> AgentId | None:
    """The first policy that acted, or None."""
    return next((one.agent for one in episode.agents if one.agent.kind == "policy"), None)


def inferences_of(episode: Episode) -> list[Prediction]:
    """The inferences of the policy that is explained."""
    agent = explained_agent(episode)
    found = []
    for one in episode.predictions:
        acting = [span.agent for span in episode.agents if span.first_step <= one.step][-1]
        if acting == agent:
            found.append(one)
    return found


def kept_explanations(shelf: Shelf, episode: Episode, kind: MapKind) -> list[Explanation]:
    """The explanations of a kind that are kept already."""
    found = []
    for one in inferences_of(episode):
        arrays = shelf.read(_name(one.step, kind))
        if arrays is not None:
            found.append(_from_arrays(one.step, arrays))
    return found


def explain_inferences(
    shelf: Shelf,
    episode: Episode,
    pictures: Sequence[Picture],
    policy: "Policy",
    kind: MapKind = USUAL,
    first: int = 0,
) -> Iterator[list[Explanation]]:
    """Explains what is not kept yet, inference by inference; gives all explanations so far.

    Nothing is lost when the iterator is closed.

    Args:
        shelf: where they are kept, each kind under its own name.
        episode: which.
        pictures: of its steps.
        policy: who acted.
        kind: of the maps.
        first: the step around which people look first.

    Raises:
        UserError: the method cannot explain this policy, its actions have no length, or the disk
            is full.
    """
    found = {one.step: one for one in kept_explanations(shelf, episode, kind)}
    missing = [one for one in inferences_of(episode) if one.step not in found]
    for one in sorted(missing, key=lambda one: abs(one.step - first)):
        told = given_sentence(episode.spec, episode.spec.condition.perturbations, one.step)
        explained = explain(policy, pictures[one.step].seen, told, one, kind)
        shelf.write(
            _name(one.step, kind),
            {
                "cells": explained.cells,
                "words": np.array(explained.words, np.str_),
                "bars": explained.bars,
                "turned": explained.turned,
                "apart": np.array(explained.apart),
                "layers": explained.layers,
            },
        )
        found[one.step] = explained
        yield [found[step] for step in sorted(found)]


def explain(
    policy: "Policy",
    picture: Image,
    instruction: str,
    prediction: Prediction,
    kind: MapKind = USUAL,
) -> Explanation:
    """Explains one inference: a map of the picture, and the sentence word by word.

    Args:
        policy: who is asked.
        picture: what it sees.
        instruction: what it is told.
        prediction: what it predicted when the episode was run.
        kind: of the map.

    Raises:
        UserError: the method cannot explain this policy, or its actions have no length.
    """
    # They take seconds: torch.
    from vlm4vla.attribution.attention import attention_by_layer
    from vlm4vla.attribution.inputs import GRID, Question, words
    from vlm4vla.attribution.methods import METHODS
    from vlm4vla.attribution.occlusion import leave_one_word_out
    from vlm4vla.attribution.target import AGREEMENT, TARGETS

    question, target = Question(picture, instruction), TARGETS[kind.target]
    if kind.method == "attention":
        layers = attention_by_layer(policy, question)
        cells = layers.mean(0)
    else:
        layers = np.zeros((0, GRID, GRID))
        cells = METHODS[kind.method](policy, question, target).scores
    said = tuple(words(instruction))
    bars = turned = np.zeros(0)
    if said:
        bars = leave_one_word_out(policy, question, target).scores
        turned = leave_one_word_out(policy, question, AGREEMENT).scores
    now = policy.act(picture[None], [instruction])[0]
    apart = np.linalg.norm(now[0, :3] - prediction.chunk[0, :3]) * COMMAND_MM
    return Explanation(prediction.step, cells, said, bars, turned, float(apart), layers)


def _name(step: int, kind: MapKind) -> str:
    return f"inference-{step:04d}-{kind.name}"


def _from_arrays(step: int, arrays: Arrays) -> Explanation:
    return Explanation(
        step,
        arrays["cells"],
        tuple(str(word) for word in arrays["words"]),
        arrays["bars"],
        arrays["turned"],
        float(arrays["apart"]),
        arrays["layers"],
    )
