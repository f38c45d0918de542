"""The stage "imitation": the expert's next actions for every valid instruction of a frame."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.model.policy import Policy
from vlm4vla.train.auxiliary.noun_positions import NounPositionLoss, Nouns, query_state_and_nouns
from vlm4vla.train.auxiliary.visual import VisualLoss, VisualTargets, visual_loss, watching
from vlm4vla.train.batches.frames import FrameBatch, Frames
from vlm4vla.train.batches.pictures import ImageStore
from vlm4vla.train.batches.transfer import to_arrays, to_tensors
from vlm4vla.train.gates import Gate
from vlm4vla.train.loop.precision import autocast
from vlm4vla.train.loop.ranks import mean_over_ranks
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives.grounding import (
    DrawnFrames,
    GroundingHead,
    Points,
    ask_frames,
    draw_frames,
    nouns_of,
    point_errors,
    points_of,
)
from vlm4vla.train.speed.prefix_cache import Asked, query_of, row_states


@dataclass(frozen=True)
class ImitationRecipe:
    """What the stage adds to the loop's recipe.

    Attributes:
        loop: the loop's own recipe.
        instructions: instructions a frame.
        gripper: weight of the gripper's cross entropy beside the arm's Huber loss.
        grounding: weight of the grounding head's loss beside both; 0 leaves it out.
        names: weight of the places of names beside all that; 0 leaves them out.
        alignment: weight of what patches show and of the hand's place; 0 leaves both out.
        brightness: largest change of brightness and contrast, as a share.
        comparisons: how many times as often a broad sentence compares a thing with others as
            where policies are measured.
        from_start: broad sentences mean their goals as things stood when the episode began.
    """

    loop: Recipe
    instructions: int = 3
    gripper: float = 0.1
    grounding: float = 0.05
    names: float = 0.05
    alignment: float = 0.05
    brightness: float = 0.15
    comparisons: float = 1.0
    from_start: bool = True


def vary(images: Tensor, factors: Tensor) -> Tensor:
    """Brightens and dims pictures a little; colours keep their names, and things their places.

    Args:
        images: (B, H, W, 3) uint8 RGB.
        factors: (B, 2) of brightness and of contrast, 1 for none.
    """
    bright, contrast = factors[:, :, None, None, None].unbind(1)
    return ((images * bright - 128) * contrast + 128).clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class ImitationBatch:
    """B frames and R rows about them: arrays, later tensors.

    Attributes:
        numbers: int64 (B,) of the frames.
        factors: float32 (B, 2), see `vary`.
        visual: what each frame shows; None where that is not learned.
        asked: instructions that end with the query.
        arm: float32 (R, n, 6) normalised actions.
        gripper: float32 (R, n), 1 for open.
        points: what each row points at.
        nouns: the names in the rows; None where they are not learned.
    """

    numbers: Any
    factors: Any
    visual: VisualTargets | None
    asked: Asked
    arm: Any
    gripper: Any
    points: Points
    nouns: Nouns | None


class _Module(nn.Module):
    def __init__(self, policy: Policy, images: ImageStore, recipe: ImitationRecipe) -> None:
        super().__init__()
        self.policy = policy
        self.images = images
        self.recipe = recipe
        with torch.random.fork_rng(devices=[]):
            # Two runs of one seed would else begin with different heads.
            torch.manual_seed(recipe.loop.seed)
            self.grounding = GroundingHead(policy.vlm.width).to(policy.device)
            self.sight = VisualLoss(policy) if recipe.alignment else None
        self.names = NounPositionLoss(policy.vlm) if recipe.names else None

    def forward(self, batch: ImitationBatch) -> tuple[Tensor, dict[str, Tensor]]:
        policy, recipe = self.policy, self.recipe
        arm, gripper = batch.arm, batch.gripper
        images = vary(self.images.take(batch.numbers), batch.factors)
        with watching(self.sight):
            features = policy.encode(images)
        sight, metrics = visual_loss(self.sight, features.tokens, batch.visual)
        state, names, bound = query_state_and_nouns(
            policy, features, batch.asked, self.names, batch.nouns
        )
        prediction = policy.head(state)
        rows = torch.tensor(float(len(arm)), device=arm.device)
        acting = policy.loss(prediction, arm, gripper, torch.ones_like(gripper), recipe.gripper)
        loss = mean_over_ranks(acting * rows, rows) + recipe.names * names
        loss = loss + recipe.alignment * sight
        with torch.no_grad():
            right = ((prediction.gripper > 0) == (gripper > 0.5)).float().mean()
            moves = torch.tensor(policy.spec.moves, device=arm.device)
            off = ((prediction.arm.float() - arm) * moves).abs().mean() / moves.float().mean()
        metrics |= {"arm": off, "gripper": right}
        if recipe.grounding:
            logits, points = self.grounding(state), batch.points
            pointing = self.grounding.loss(logits, points.metres, points.known)
            loss = loss + recipe.grounding * pointing
            metrics |= point_errors(self.grounding, logits, points)
        return loss, metrics | bound


def _generators(seed: int, index: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Of an index: for frames and instructions, and for brightness."""
    first, second = np.random.default_rng([seed, index, 6]).spawn(2)
    return first, second


def frames_of(
    frames: Frames,
    loop: Recipe,
    instructions: int,
    index: int,
    rank: int,
    ranks: int,
    comparisons: float = 1.0,
    from_start: bool = False,
) -> FrameBatch:
    """A rank's part of the frames and instructions of an index, decisive frames more often."""
    rng, _ = _generators(loop.seed, index)
    return frames.draw(
        loop.batch,
        instructions,
        rng,
        weighted=True,
        comparisons=comparisons,
        from_start=from_start,
        rank=rank,
        ranks=ranks,
    )


def factors_of(
    loop: Recipe, amount: float, index: int, rank: int, ranks: int
) -> NDArray[np.float32]:
    """A rank's part (B, 2) of the factors of an index's pictures, see `vary`."""
    _, rng = _generators(loop.seed, index)
    return (1 + rng.uniform(-amount, amount, (loop.batch, 2))[rank::ranks]).astype(np.float32)


class ImitationObjective:
    """Batches and loss of the imitation stage; an `Objective` of the loop.

    Args:
        policy: everything in it that is not frozen learns.
        frames: the frames to learn from.
        recipe: the stage's recipe.
    """

    def __init__(self, policy: Policy, frames: Frames, recipe: ImitationRecipe) -> None:
        self.vlm, self.spec = policy.vlm, policy.spec
        self.frames = frames
        self.recipe = recipe
        self.imitation = _Module(policy, ImageStore(frames.cache.images), recipe)
        self.module: nn.Module = self.imitation
        self.query: str | None = "policy.query"
        if not recipe.grounding:
            for parameter in self.imitation.grounding.parameters():
                parameter.requires_grad_(False)

    def batch(self, index: int, rank: int = 0, ranks: int = 1) -> ImitationBatch:
        """The batch of an index, its pictures varied a little."""
        drawn, recipe = self.draw(index, rank, ranks), self.recipe
        factors = factors_of(recipe.loop, recipe.brightness, index, rank, ranks)
        asked = ask_frames(self.vlm, drawn.frames)
        targets = self.spec.normalise(drawn.frames.chunks)
        return to_arrays(
            ImitationBatch(
                drawn.frames.numbers,
                factors,
                drawn.visual,
                asked,
                targets.arm,
                targets.gripper,
                points_of(drawn.frames),
                nouns_of(self.imitation.names, drawn, asked),
            )
        )

    def draw(self, index: int, rank: int = 0, ranks: int = 1) -> DrawnFrames:
        """What is shown and said in a batch."""
        recipe = self.recipe
        frames = frames_of(
            self.frames,
            recipe.loop,
            recipe.instructions,
            index,
            rank,
            ranks,
            comparisons=recipe.comparisons,
            from_start=recipe.from_start,
        )
        return draw_frames(self.frames, frames, self.imitation.sight, self.imitation.names)


@dataclass(frozen=True)
class Imitated:
    """Errors on unseen scenes over every valid instruction, in held-out words.

    Attributes:
        arm_mm: mean distance between the predicted and the expert's commanded motion of the first
            action, in millimetres of command (1.0 commands 100 mm), by task and "all".
        gripper: share of right gripper commands over the whole chunk, likewise.
    """

    arm_mm: dict[str, float]
    gripper: dict[str, float]

    def gates(self) -> list[Gate]:
        """None: whether actions are good shows in the simulator."""
        return []

    def metrics(self) -> dict[str, float]:
        """The metrics flat, for a log."""
        arm = {f"arm_mm_{task}": value for task, value in self.arm_mm.items()}
        return arm | {f"gripper_{task}": value for task, value in self.gripper.items()}


@torch.inference_mode()
def measure_imitation(
    policy: Policy, frames: Frames, numbers: NDArray[np.int64], seed: int = 0
) -> Imitated:
    """Compares predictions with the expert's labels on the given frames.

    Args:
        policy: the policy.
        frames: where the frames come from.
        numbers: frame numbers.
        seed: of the choice of words.
    """
    rng = np.random.default_rng([seed, 7])
    arm: dict[str, list[float]] = defaultdict(list)
    gripper: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(numbers), 32):
        batch = frames.every_goal(numbers[start : start + 32], rng)
        asked = to_tensors(ask_frames(policy.vlm, batch), policy.device)
        with autocast(policy.device):
            features = policy.encode(frames.cache.images[batch.numbers])
            states, column = row_states(policy, features, asked)
            prediction = policy.head(query_of(policy, states, asked, column))
        found = policy.spec.unnormalise(
            prediction.arm.float().cpu().numpy(), prediction.gripper.float().cpu().numpy()
        )
        off = np.linalg.norm((found - batch.chunks)[:, 0, :3], axis=-1) * 100
        right = ((found[..., 6] > 0) == (batch.chunks[..., 6] > 0)).mean(-1)
        for goal, distance, share in zip(batch.goals, off, right, strict=True):
            for group in (goal.task, "all"):
                arm[group].append(float(distance))
                gripper[group].append(float(share))
    return Imitated(
        {task: float(np.mean(values)) for task, values in sorted(arm.items())},
        {task: float(np.mean(values)) for task, values in sorted(gripper.items())},
    )
