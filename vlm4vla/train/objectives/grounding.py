"""The stage "grounding": from the query's position, where things are, in metres.

It begins with sight: the vision tower alone learns the words of what patches show, the robot's hand
among them, and where that hand is in metres. A picture costs a quarter of what it costs later.

A head that is thrown away afterwards reads the gripper, the named object and the goal place from
the hidden state that the action head will read. This is control-relevant supervision without
actions; a study can leave it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import Vlm
from vlm4vla.train.auxiliary.noun_positions import (
    Cells,
    NounPositionLoss,
    Nouns,
    query_state_and_nouns,
)
from vlm4vla.train.auxiliary.visual import VisualLoss, VisualTargets, visual_loss, watching
from vlm4vla.train.batches.frames import FrameBatch, Frames
from vlm4vla.train.batches.pictures import ImageStore
from vlm4vla.train.batches.transfer import to_arrays, to_tensors
from vlm4vla.train.gates import Gate
from vlm4vla.train.loop.precision import autocast
from vlm4vla.train.loop.ranks import mean_over_ranks
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.speed.prefix_cache import Asked, ask_rows, query_of, row_states

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
        return mean_over_ranks((entropy * known).sum(), known.sum())


@dataclass(frozen=True)
class Points:
    """What the rows of a batch point at: arrays, later tensors.

    Attributes:
        metres: float32 (R, 3, 3), in the order of `POINTS`.
        known: bool (R, 3), which of them there are.
    """

    metres: Any
    known: Any


def points_of(batch: FrameBatch) -> Points:
    """The points of a batch's rows."""
    known = np.ones((len(batch.tcp), len(POINTS)), bool)
    known[:, 2] = batch.has_place
    return Points(np.stack([batch.tcp, batch.thing, batch.place], axis=1), known)


@dataclass(frozen=True)
class GroundingRecipe:
    """What the stage adds to the loop's recipe.

    Attributes:
        loop: the loop's own recipe.
        instructions: instructions a frame.
        sight_steps: steps at the start with the vision tower alone.
        alignment: weight of the patch words and of the hand's place afterwards; 0 leaves both out.
        names: weight of the places of names; 0 leaves them out.
        comparisons: how many times as often a broad sentence compares a thing with others as
            where policies are measured.
        from_start: broad sentences mean their goals as things stood when the episode began.
    """

    loop: Recipe
    instructions: int = 3
    sight_steps: int = 1_500
    alignment: float = 0.3
    names: float = 0.5
    comparisons: float = 1.0
    from_start: bool = True


@dataclass(frozen=True)
class GroundingBatch:
    """B frames and R rows about them: arrays, later tensors.

    Attributes:
        numbers: int64 (B,) of the frames.
        visual: what each shows; None where that is not learned.
        asked: instructions; None while only the vision tower learns, as is the rest.
        points: what each row points at.
        nouns: the names in the rows; None where they are not learned.
    """

    numbers: Any
    visual: VisualTargets | None
    asked: Asked | None = None
    points: Points | None = None
    nouns: Nouns | None = None


class _Module(nn.Module):
    def __init__(self, policy: Policy, images: ImageStore, recipe: GroundingRecipe) -> None:
        super().__init__()
        self.policy = policy
        self.images = images
        self.recipe = recipe
        with torch.random.fork_rng(devices=[]):
            # Two runs of one seed would else begin with different heads.
            torch.manual_seed(recipe.loop.seed)
            self.head = GroundingHead(policy.vlm.width).to(policy.device)
            self.sight = VisualLoss(policy) if recipe.alignment else None
        self.names = NounPositionLoss(policy.vlm) if recipe.names else None

    def forward(self, batch: GroundingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        with watching(self.sight):
            features = self.policy.encode(self.images.take(batch.numbers))
        sight, metrics = visual_loss(self.sight, features.tokens, batch.visual)
        if batch.asked is None or batch.points is None:
            return sight, metrics
        state, names, bound = query_state_and_nouns(
            self.policy, features, batch.asked, self.names, batch.nouns
        )
        logits, points = self.head(state), batch.points
        loss = self.head.loss(logits, points.metres, points.known) + self.recipe.names * names
        metrics |= point_errors(self.head, logits, points)
        return loss + self.recipe.alignment * sight, metrics | bound


@torch.no_grad()
def point_errors(head: GroundingHead, logits: Tensor, points: Points) -> dict[str, Tensor]:
    """Median distances in millimetres, for a log."""
    apart = (head.places(logits) - points.metres).norm(dim=-1) * 1000
    return {"gripper_mm": apart[:, 0].median(), "thing_mm": apart[:, 1].median()}


def ask_frames(vlm: Vlm, batch: FrameBatch) -> Asked:
    """The rows of a batch's instructions, which end with the action query."""
    texts = [vlm.family.text(instruction) for instruction in batch.instructions]
    return ask_rows(vlm, texts, None, batch.image_index)


@dataclass(frozen=True)
class DrawnFrames:
    """Frames with what their pictures teach, before any of it is put in a family's tokens.

    Attributes:
        frames: B frames and R instructions.
        visual: what each frame shows; None where that is not learned.
        cells: where the things of each frame are seen; None where names are not learned.
    """

    frames: FrameBatch
    visual: VisualTargets | None
    cells: Sequence[Cells] | None


def draw_frames(
    frames: Frames, drawn: FrameBatch, sight: VisualLoss | None, names: NounPositionLoss | None
) -> DrawnFrames:
    """Adds to drawn frames what their pictures teach."""
    return DrawnFrames(
        drawn,
        sight.targets(frames, drawn.numbers) if sight else None,
        frames.cells(drawn.numbers) if names else None,
    )


def nouns_of(names: NounPositionLoss | None, drawn: DrawnFrames, asked: Asked) -> Nouns | None:
    """The names in a batch's rows, or None where they are not learned."""
    if names is None or drawn.cells is None:
        return None
    cells = drawn.cells
    return names.find(asked.rows, [cells[int(i)] for i in drawn.frames.image_index])


class GroundingObjective:
    """Batches and loss of the grounding stage; an `Objective` of the loop.

    Args:
        policy: its VLM and query learn; its action head takes no part.
        frames: the frames to learn from.
        recipe: the stage's recipe.
    """

    def __init__(self, policy: Policy, frames: Frames, recipe: GroundingRecipe) -> None:
        self.vlm = policy.vlm
        self.frames = frames
        self.recipe = recipe
        self.grounding = _Module(policy, ImageStore(frames.cache.images), recipe)
        self.module: nn.Module = self.grounding
        self.query: str | None = "policy.query"
        for parameter in policy.head.parameters():
            parameter.requires_grad_(False)

    def batch(self, index: int, rank: int = 0, ranks: int = 1) -> GroundingBatch:
        """The batch of an index."""
        drawn = self.draw(index, rank, ranks)
        frames, visual = drawn.frames, drawn.visual
        if not frames.instructions:
            return GroundingBatch(frames.numbers, visual)
        asked = ask_frames(self.vlm, frames)
        nouns = nouns_of(self.grounding.names, drawn, asked)
        return to_arrays(GroundingBatch(frames.numbers, visual, asked, points_of(frames), nouns))

    def draw(self, index: int, rank: int = 0, ranks: int = 1) -> DrawnFrames:
        """What is shown and said in a batch; nothing is said while only the vision tower learns."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.loop.seed, index, 4])
        seeing = recipe.alignment and index < recipe.sight_steps * recipe.loop.accumulation
        instructions = 0 if seeing else recipe.instructions
        frames = self.frames.draw(
            recipe.loop.batch,
            instructions,
            rng,
            comparisons=recipe.comparisons,
            from_start=recipe.from_start,
            rank=rank,
            ranks=ranks,
        )
        return draw_frames(self.frames, frames, self.grounding.sight, self.grounding.names)


@dataclass(frozen=True)
class Grounded:
    """Median distances in millimetres over every valid instruction of every frame.

    Attributes:
        gripper: to the centre between the finger tips.
        thing: to the named object.
        place: to the goal place, where there is one.
        first: to the named object, in first frames only, where no motion gives the goal away.
        bound: share of rows whose point is nearer to the named object than to any other.
        compared: the same where a comparison tells which object is meant ("the leftmost cube",
            "the thing nearest to the bowl"); NaN where no goal has one.
    """

    gripper: float
    thing: float
    place: float
    first: float
    bound: float
    compared: float

    def metrics(self) -> dict[str, float]:
        """The metrics flat, for a log."""
        shares = ("bound", "compared")
        return {name if name in shares else f"{name}_mm": v for name, v in vars(self).items()}

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

    Comparing sentences are broad ones that training may hold.

    Args:
        policy: the policy.
        head: the stage's head.
        frames: where the frames come from.
        numbers: frame numbers; hold some first frames.
        seed: of the choice of words.
    """
    rng, comparing = np.random.default_rng([seed, 5]), np.random.default_rng([seed, 15])
    apart: list[NDArray[np.float32]] = []
    bound: list[NDArray[np.bool_]] = []
    compared: list[NDArray[np.bool_]] = []
    first: list[NDArray[np.bool_]] = []
    has_place: list[NDArray[np.bool_]] = []
    for start in range(0, len(numbers), 32):
        some = numbers[start : start + 32]
        batch = frames.every_goal(some, rng)
        found = _pointed_at(policy, head, frames, batch)
        apart.append(np.linalg.norm(found - points_of(batch).metres, axis=-1) * 1000)
        bound.append(_is_nearest_to_its_thing(found, batch))
        first.append(batch.is_first)
        has_place.append(batch.has_place)
        relating = frames.comparing(some, comparing)
        if relating.instructions:
            found = _pointed_at(policy, head, frames, relating)
            compared.append(_is_nearest_to_its_thing(found, relating))
    distances = np.concatenate(apart)
    return Grounded(
        gripper=float(np.median(distances[:, 0])),
        thing=float(np.median(distances[:, 1])),
        place=_median(distances[np.concatenate(has_place), 2]),
        first=_median(distances[np.concatenate(first), 1]),
        bound=float(np.concatenate(bound).mean()),
        compared=float(np.concatenate(compared).mean()) if compared else float("nan"),
    )


def _pointed_at(
    policy: Policy, head: GroundingHead, frames: Frames, batch: FrameBatch
) -> NDArray[np.float32]:
    """(R, 3, 3) metres, in the order of `POINTS`."""
    asked = to_tensors(ask_frames(policy.vlm, batch), policy.device)
    with autocast(policy.device):
        features = policy.encode(frames.cache.images[batch.numbers])
        states, column = row_states(policy, features, asked)
        places = head.places(head(query_of(policy, states, asked, column)))
    found: NDArray[np.float32] = places.cpu().numpy()
    return found


def _is_nearest_to_its_thing(found: NDArray[np.float32], batch: FrameBatch) -> NDArray[np.bool_]:
    """(R,) whether a row points nearer to its object than to any other of the frame."""
    nearest = np.linalg.norm(batch.others - found[:, 1:2], axis=-1).argmin(-1)
    wanted = np.linalg.norm(batch.others - batch.thing[:, None], axis=-1).argmin(-1)
    right: NDArray[np.bool_] = nearest == wanted
    return right


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
