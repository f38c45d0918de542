"""The stage "imitation": the expert's next actions for every valid instruction of a frame."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.model.policy import Policy
from vlm4vla.train.auxiliary.noun_positions import Cells, NounPositions, query_state_and_nouns
from vlm4vla.train.auxiliary.visual import VisualLoss, VisualTargets, see
from vlm4vla.train.batches.frames import FrameBatch, Frames
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.loop.train import autocast
from vlm4vla.train.objectives.grounding import GroundingHead, points_of, row_cells
from vlm4vla.train.speed.prefix_cache import shared_query_state


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
    """

    loop: Recipe
    instructions: int = 3
    gripper: float = 0.1
    grounding: float = 0.05
    names: float = 0.05
    alignment: float = 0.05
    brightness: float = 0.15


def vary(
    images: NDArray[np.uint8], rng: np.random.Generator, brightness: float
) -> NDArray[np.uint8]:
    """Brightens and dims pictures a little; colours keep their names, and things their places.

    Args:
        images: (B, H, W, 3) RGB.
        rng: what is drawn from.
        brightness: largest relative change of brightness, and of contrast.
    """
    varied = np.empty_like(images)
    for i, image in enumerate(images):
        bright, contrast = 1 + rng.uniform(-brightness, brightness, size=2)
        # The same change for every pixel and channel is a table of 256 entries.
        table = ((np.arange(256) * bright - 128) * contrast + 128).clip(0, 255).astype(np.uint8)
        varied[i] = table[image]
    return varied


@dataclass(frozen=True)
class ImitationBatch:
    """Frames and, where they are learned, what each shows and what each row can name."""

    frames: FrameBatch
    sight: VisualTargets | None
    cells: tuple[Cells, ...] | None


class _Module(nn.Module):
    def __init__(self, policy: Policy, recipe: ImitationRecipe) -> None:
        super().__init__()
        self.policy = policy
        self.recipe = recipe
        self.grounding = GroundingHead(policy.vlm.width).to(policy.device)
        self.sight = VisualLoss(policy) if recipe.alignment else None
        self.names = NounPositions(policy.vlm) if recipe.names else None

    def forward(self, lesson: ImitationBatch) -> tuple[Tensor, dict[str, Tensor]]:
        policy, device, batch = self.policy, self.policy.device, lesson.frames
        index = torch.from_numpy(batch.image_index).to(device)
        features = policy.encode(torch.from_numpy(batch.images))
        sight, seen = see(self.sight, features.tokens, lesson.sight)
        state, names = query_state_and_nouns(
            policy, features, batch.instructions, index, self.names, lesson.cells
        )
        targets = policy.spec.normalise(batch.chunks)
        arm = torch.from_numpy(targets.arm).to(device)
        gripper = torch.from_numpy(targets.gripper).to(device)
        prediction = policy.head(state)
        loss = policy.loss(prediction, arm, gripper, torch.ones_like(gripper), self.recipe.gripper)
        loss = loss + self.recipe.names * names.loss + self.recipe.alignment * sight
        with torch.no_grad():
            right = ((prediction.gripper > 0) == (gripper > 0.5)).float().mean()
            moves = torch.tensor(policy.spec.moves, device=device)
            off = (prediction.arm.float() - arm)[..., moves].abs().mean()
        metrics = {"arm": off, "gripper": right}
        if self.recipe.grounding:
            logits = self.grounding(state)
            points, known = points_of(batch, device)
            loss = loss + self.recipe.grounding * self.grounding.loss(logits, points, known)
            with torch.no_grad():
                apart = (self.grounding.places(logits) - points).norm(dim=-1) * 1000
            metrics |= {"gripper_mm": apart[:, 0].median(), "thing_mm": apart[:, 1].median()}
        return loss, metrics | seen | names.metrics


class ImitationObjective:
    """Batches and loss of the imitation stage; a `Objective` of the loop.

    Args:
        policy: everything in it that is not frozen learns.
        frames: the frames to learn from.
        recipe: the stage's recipe.
    """

    def __init__(self, policy: Policy, frames: Frames, recipe: ImitationRecipe) -> None:
        self.frames = frames
        self.recipe = recipe
        self.imitation = _Module(policy, recipe)
        self.module: nn.Module = self.imitation
        self.query: str | None = "policy.query"
        if not recipe.grounding:
            for parameter in self.imitation.grounding.parameters():
                parameter.requires_grad_(False)

    def batch(self, index: int) -> ImitationBatch:
        """The batch of an index, its pictures varied a little."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.loop.seed, index, 6])
        batch = self.frames.draw(recipe.loop.batch, recipe.instructions, rng, weighted=True)
        images = vary(batch.images, rng, recipe.brightness)
        varied = FrameBatch(**{**vars(batch), "images": images})
        sight = self.imitation.sight
        return ImitationBatch(
            varied,
            sight.targets(self.frames, batch.numbers) if sight else None,
            row_cells(self.frames, batch, recipe.names),
        )


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

    def metrics(self) -> dict[str, float]:
        """The figures flat, for a log."""
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
        index = torch.from_numpy(batch.image_index).to(policy.device)
        with autocast(policy.device):
            features = policy.encode(torch.from_numpy(batch.images))
            state = shared_query_state(policy, features, batch.instructions, index)
            prediction = policy.head(state)
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
