"""The stage "grounding": from the query's position, where things are, in metres.

It begins with sight: the vision tower alone learns the words of what patches show, the robot's hand
among them, and where that hand is in metres. A picture costs a quarter of what it costs later.

A head that is thrown away afterwards reads the gripper, the named object and the goal place from
the hidden state that the action head will read. This is control-relevant supervision without
actions; a study can leave it out.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.model.policy import Policy
from vlm4vla.train.auxiliary.noun_positions import Cells, NounPositions, query_state_and_nouns
from vlm4vla.train.auxiliary.visual import VisualLoss, VisualTargets, see
from vlm4vla.train.batches.frames import FrameBatch, Frames
from vlm4vla.train.gates import Gate
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.loop.train import autocast
from vlm4vla.train.speed.prefix_cache import shared_query_state

BINS: Final = 48
"""Classes an axis; the place is their mean weighted by probability."""

LOW: Final = (-0.34, -0.28, 0.00)
HIGH: Final = (0.20, 0.28, 0.28)
"""Ends of the axes in metres: everything on the table, and the hand above it."""

POINTS: Final = ("gripper", "thing", "place")


class GroundingHead(nn.Module):
    """Hidden state (R, D) to logits (R, 3 points, 3 axes, BINS); thrown away after the stage.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        outputs = len(POINTS) * 3 * BINS
        last = nn.Linear(2 * width, outputs)
        # A head that knows nothing must not disturb a model that already knows something.
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), last)
        low, high = torch.tensor(LOW), torch.tensor(HIGH)
        steps = (torch.arange(BINS) + 0.5) / BINS
        self.centres: Tensor
        self.register_buffer(
            "centres", low[:, None] + (high - low)[:, None] * steps, persistent=False
        )

    def forward(self, state: Tensor) -> Tensor:
        """Logits."""
        return self.layers(state).float().unflatten(-1, (len(POINTS), 3, BINS))

    def places(self, logits: Tensor) -> Tensor:
        """(R, 3, 3) metres: the mean over the best bin and its neighbours."""
        best = logits.argmax(-1, keepdim=True)
        near = (torch.arange(BINS, device=logits.device) - best).abs() <= 2
        share = logits.masked_fill(~near, -torch.inf).softmax(-1)
        return (share * self.centres).sum(-1)

    def loss(self, logits: Tensor, points: Tensor, known: Tensor) -> Tensor:
        """Cross entropy against the two bins around each coordinate.

        Args:
            logits: (R, 3, 3, BINS).
            points: (R, 3, 3) metres; what lies outside the axes counts as on their end.
            known: (R, 3) bool, which points there are.
        """
        low, width = self.centres[:, 0], self.centres[:, 1] - self.centres[:, 0]
        where = ((points - low) / width).clamp(0, BINS - 1 - 1e-4)
        left = where.floor()
        share = (where - left)[..., None]
        target = (1 - share) * F.one_hot(left.long(), BINS) + share * F.one_hot(
            left.long() + 1, BINS
        )
        entropy = -(target * logits.log_softmax(-1)).sum(-1).mean(-1)
        return entropy[known].mean()


def points_of(batch: FrameBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """The points (R, 3, 3) of a batch's rows in metres, and which of them there are (R, 3)."""
    points = np.stack([batch.tcp, batch.thing, batch.place], axis=1)
    known = np.ones((len(points), len(POINTS)), bool)
    known[:, 2] = batch.has_place
    return torch.from_numpy(points).to(device), torch.from_numpy(known).to(device)


@dataclass(frozen=True)
class GroundingRecipe:
    """What the stage adds to the loop's recipe.

    Attributes:
        loop: the loop's own recipe.
        instructions: instructions a frame.
        sight_steps: steps at the start with the vision tower alone.
        alignment: weight of the patch words and of the hand's place afterwards; 0 leaves both out.
        names: weight of the places of names; 0 leaves them out.
    """

    loop: Recipe
    instructions: int = 3
    sight_steps: int = 1_500
    alignment: float = 0.3
    names: float = 0.5


@dataclass(frozen=True)
class GroundingBatch:
    """Frames and, where they are learned, what each shows and what each row can name.

    While only sight is learned, the frames have no rows.
    """

    frames: FrameBatch
    sight: VisualTargets | None
    cells: tuple[Cells, ...] | None


class _Module(nn.Module):
    def __init__(self, policy: Policy, recipe: GroundingRecipe) -> None:
        super().__init__()
        self.policy = policy
        self.recipe = recipe
        self.head = GroundingHead(policy.vlm.width).to(policy.device)
        self.sight = VisualLoss(policy) if recipe.alignment else None
        self.names = NounPositions(policy.vlm) if recipe.names else None

    def forward(self, batch: GroundingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        rows = batch.frames
        features = self.policy.encode(torch.from_numpy(rows.images))
        sight, metrics = see(self.sight, features.tokens, batch.sight)
        if not rows.instructions:
            return sight, metrics
        points, known = points_of(rows, self.policy.device)
        index = torch.from_numpy(rows.image_index).to(self.policy.device)
        state, names = query_state_and_nouns(
            self.policy, features, rows.instructions, index, self.names, batch.cells
        )
        logits = self.head(state)
        loss = self.head.loss(logits, points, known) + self.recipe.names * names.loss
        with torch.no_grad():
            apart = (self.head.places(logits) - points).norm(dim=-1) * 1000
        metrics |= {"gripper_mm": apart[:, 0].median(), "thing_mm": apart[:, 1].median()}
        return loss + self.recipe.alignment * sight, metrics | names.metrics


def row_cells(frames: Frames, batch: FrameBatch, weight: float) -> tuple[Cells, ...] | None:
    """What each row of a batch can name and where it is, or None where that has no weight."""
    if not weight:
        return None
    cells = frames.cells(batch.numbers)
    return tuple(cells[int(i)] for i in batch.image_index)


class GroundingObjective:
    """Batches and loss of the grounding stage; a `Objective` of the loop.

    Args:
        policy: its VLM and query learn; its action head takes no part.
        frames: the frames to learn from.
        recipe: the stage's recipe.
    """

    def __init__(self, policy: Policy, frames: Frames, recipe: GroundingRecipe) -> None:
        self.frames = frames
        self.recipe = recipe
        self.grounding = _Module(policy, recipe)
        self.module: nn.Module = self.grounding
        self.query: str | None = "policy.query"
        for parameter in policy.head.parameters():
            parameter.requires_grad_(False)

    def batch(self, index: int) -> GroundingBatch:
        """The batch of an index."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.loop.seed, index, 4])
        seeing = recipe.alignment and index < recipe.sight_steps * recipe.loop.accumulation
        drawn = self.frames.draw(recipe.loop.batch, 0 if seeing else recipe.instructions, rng)
        sight = self.grounding.sight
        return GroundingBatch(
            drawn,
            sight.targets(self.frames, drawn.numbers) if sight else None,
            row_cells(self.frames, drawn, recipe.names),
        )


@dataclass(frozen=True)
class Grounded:
    """Median distances in millimetres over every valid instruction of every frame.

    Attributes:
        gripper: to the centre between the finger tips.
        thing: to the named object.
        place: to the goal place, where there is one.
        first: to the named object, in first frames only, where no motion gives the goal away.
        bound: share of rows whose point is nearer to the named object than to any other.
    """

    gripper: float
    thing: float
    place: float
    first: float
    bound: float

    def metrics(self) -> dict[str, float]:
        """The figures flat, for a log."""
        return {f"{name}_mm" if name != "bound" else name: v for name, v in vars(self).items()}

    def gates(self) -> list[Gate]:
        """What the grounding stage must reach; the goal place only where a task has one."""
        errors = {
            "median error of the named object in mm": self.thing,
            "median error of the named object in first frames in mm": self.first,
            "median error of the gripper in mm": self.gripper,
            "median error of the goal place in mm": self.place,
        }
        if np.isnan(self.place):
            errors.popitem()
        return [Gate(name, error, 8.0, at_least=False) for name, error in errors.items()]


@torch.inference_mode()
def measure_grounding(
    policy: Policy, head: GroundingHead, frames: Frames, numbers: NDArray[np.int64], seed: int = 0
) -> Grounded:
    """Measures the given frames under every valid instruction, in held-out words.

    Args:
        policy: the policy.
        head: the stage's head.
        frames: where the frames come from.
        numbers: frame numbers; hold some first frames.
        seed: of the choice of words.
    """
    rng = np.random.default_rng([seed, 5])
    apart: list[NDArray[np.float32]] = []
    bound: list[NDArray[np.bool_]] = []
    first: list[NDArray[np.bool_]] = []
    has_place: list[NDArray[np.bool_]] = []
    for start in range(0, len(numbers), 32):
        batch = frames.every_goal(numbers[start : start + 32], rng)
        points, _ = points_of(batch, policy.device)
        index = torch.from_numpy(batch.image_index).to(policy.device)
        with autocast(policy.device):
            features = policy.encode(torch.from_numpy(batch.images))
            state = shared_query_state(policy, features, batch.instructions, index)
            found = head.places(head(state))
        apart.append((found - points).norm(dim=-1).cpu().numpy() * 1000)
        thing = found[:, None, 1].cpu().numpy()
        nearest = np.linalg.norm(batch.others - thing, axis=-1).argmin(-1)
        wanted = np.linalg.norm(batch.others - batch.thing[:, None], axis=-1).argmin(-1)
        bound.append(nearest == wanted)
        first.append(batch.is_first)
        has_place.append(batch.has_place)
    distances = np.concatenate(apart)
    return Grounded(
        gripper=float(np.median(distances[:, 0])),
        thing=float(np.median(distances[:, 1])),
        place=_median(distances[np.concatenate(has_place), 2]),
        first=_median(distances[np.concatenate(first), 1]),
        bound=float(np.concatenate(bound).mean()),
    )


def _median(values: NDArray[np.float32]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def check_numbers(frames: Frames, firsts: int, others: int) -> NDArray[np.int64]:
    """Frame numbers to measure on: first frames and any frames, evenly spread, the same always."""
    numbers = frames.numbers
    first = numbers[frames.cache.step[numbers] == 0]
    return np.concatenate([_spread(first, firsts), _spread(numbers, others)])


def _spread(values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).astype(int)]
