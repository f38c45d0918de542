"""The policy: a VLM, one action query after its prompt, and an MLP on the query's hidden state.

Nothing here knows which VLM it is. Shapes: B pictures, R rows (a row is one instruction for one
picture), L tokens, T image tokens, D hidden size, n actions a chunk.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vlm4vla.action import ActionSpec, tiny
from vlm4vla.errors import UserError
from vlm4vla.model import checkpoint, forward
from vlm4vla.model.checkpoint import Provenance
from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.finite import first_not_finite
from vlm4vla.model.groups import describe_trainable
from vlm4vla.model.head import ActionHead, Prediction, action_loss
from vlm4vla.model.images import Images, to_pixels
from vlm4vla.model.load import load_vlm
from vlm4vla.model.prompt import build_rows
from vlm4vla.model.query import attach_query, initial_query
from vlm4vla.model.vlm import BUILDING, Vlm


class Policy(nn.Module):
    """Turns a picture and an instruction into a chunk of actions.

    `act` is the whole way. Its parts are public too, for whoever wants to look or reach inside:
    `encode` pictures, `prompt` instructions, `predict` from both. Several threads may call one
    policy at once, as long as none changes it.

    Args:
        vlm: the VLM; it is not copied, and it is itself again when `detach` is called.
        spec: the meaning of the actions.
        query_init: "zero" as in the paper, or "embedding" for a random query at the scale of the
            word embeddings.
    """

    def __init__(self, vlm: Vlm, spec: ActionSpec, query_init: str = "zero") -> None:
        super().__init__()
        self.vlm = vlm
        self.spec = spec
        self.base: Any = vlm.base
        self.query = nn.Parameter(
            initial_query(self.base.get_input_embeddings(), vlm.words, query_init)
        )
        with BUILDING:
            self.head = ActionHead(vlm.width, spec.chunk).to(self.query.device)
        self.attach()

    @classmethod
    def from_vlm(
        cls,
        vlm: str | Path | Vlm,
        spec: ActionSpec | None = None,
        *,
        query_init: str = "zero",
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        init: str = "vlm",
    ) -> "Policy":
        """Adapts a VLM: the whole adaptation is this call.

        Args:
            vlm: `FAMILY:tiny`, `FAMILY:paper`, a Hub id, a local folder, or a loaded `Vlm`.
            spec: the meaning of the actions; None for the suite's, `vlm4vla.action.tiny()`.
            query_init: see the class.
            dtype: of the VLM's weights; see `load_vlm`.
            device: see `load_vlm`.
            init: "vlm" for the VLM's weights, "scratch" for fresh ones.

        Raises:
            UserError: the folder holds a policy, whose query and head would be lost; or see
                `load_vlm`.
        """
        if isinstance(vlm, Vlm):
            return cls(vlm, spec or tiny(), query_init)
        if init == "vlm" and os.path.isfile(os.path.join(vlm, checkpoint.MANIFEST)):
            raise UserError(
                f"{vlm} holds a whole policy, and from_vlm would drop its query and head.",
                f'Use Policy.from_pretrained("{vlm}").',
            )
        return cls(load_vlm(vlm, dtype, device, init), spec or tiny(), query_init)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device | None = None,
        family: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Policy":
        """Loads a checkpoint folder; see `vlm4vla.model.checkpoint.read`."""
        stored = checkpoint.read(folder, device, family, dtype)
        policy = cls(stored.vlm, stored.spec)
        stored.copy_action_to(policy._action_tensors(), folder)
        return policy.eval()

    def save_pretrained(
        self,
        folder: str | Path,
        provenance: Provenance | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Writes a checkpoint folder; see `vlm4vla.model.checkpoint.write`."""
        vlm = dataclasses.replace(self.vlm, base=self.base)
        parts = checkpoint.Checkpoint(vlm, self.spec, self._action_tensors())
        learned = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        sizes = describe_trainable(self)
        checkpoint.write(folder, parts, sizes, learned, provenance or Provenance(), dtype)

    def _action_tensors(self) -> Mapping[str, Tensor]:
        head = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        return {"query": self.query.detach()} | head

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.query.device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Policy":
        """Moves to a device, but refuses what `half`, `bfloat16`, `double` and `to(dtype)` ask.

        They would round rotary frequencies too, and with them every position.
        """
        if fn(torch.zeros(1, device=self.device)).dtype != torch.float32:
            raise UserError(
                "A policy's precision is chosen when it is loaded: its query, its head and some "
                "of the VLM's constants stay in float32.",
                "Pass dtype= to Policy.from_vlm or Policy.from_pretrained.",
            )
        super()._apply(fn, recurse)
        return self

    def attach(self) -> None:
        """Lets the query enter the VLM; done when the policy is made.

        Raises:
            UserError: the VLM belongs to another policy.
        """
        self._hooks = attach_query(self.base, self.base.get_input_embeddings(), self.query)

    def detach(self) -> None:
        """Takes the query's hooks off; the VLM is then the bare one."""
        for hook in self._hooks:
            hook.remove()

    # --- one vision pass ---------------------------------------------------------------------

    def pixels(self, images: Images) -> Tensor:
        """Pictures as the vision tower wants them: (B, 3, side, side) float32, normalised.

        Args:
            images: B pictures; see `vlm4vla.model.images.to_pixels`.
        """
        family = self.vlm.family
        return to_pixels(images, family.side(self.base.config), family.mean_std, self.device)

    def encode(self, images: Images) -> Features:
        """Runs the vision tower and the projector over pictures."""
        return self.encode_pixels(self.pixels(images))

    def encode_pixels(self, pixels: Tensor) -> Features:
        """Runs the vision tower and the projector over what `pixels` gave, or a change of it.

        Args:
            pixels: (B, 3, side, side); gradients flow into them.
        """
        return forward.encode(self.vlm, pixels)

    # --- the language model over rows --------------------------------------------------------

    def rows(self, texts: Sequence[str], answers: Sequence[str] | None = None) -> Rows:
        """Prompts as tokens.

        Args:
            texts: R user's sentences (`vlm.family.text` makes one from an instruction).
            answers: R texts to be written, or None for the action query.
        """
        vlm = self.vlm
        return build_rows(vlm.tokenizer, vlm.family, vlm.image_tokens, texts, answers, self.device)

    def prompt(self, instructions: Sequence[str]) -> Rows:
        """The prompts of R instructions, each followed by the action query.

        Raises:
            UserError: it is one string, or none at all; or an instruction is no text, or longer
                than the VLM reads.
        """
        if isinstance(instructions, (str, bytes)) or not len(instructions):
            raise UserError("Instructions are a list of sentences, one a picture.")
        for instruction in instructions:
            _check_text(instruction)
        rows = self.rows([self.vlm.family.text(instruction) for instruction in instructions])
        most = getattr(self.base.config.get_text_config(), "max_position_embeddings", None)
        if most is not None and (length := rows.ids.shape[1]) > most:
            raise UserError(
                f"An instruction makes a prompt of {length} tokens, and the VLM reads {most}.",
                "Say it in fewer words.",
            )
        return rows

    def states(self, features: Features, rows: Rows, image_index: Tensor | None = None) -> Tensor:
        """Last hidden states (R, L, D) of the VLM's own forward; of the decoder if it has one.

        Args:
            features: of B pictures; gradients flow into them.
            rows: R rows.
            image_index: (R,) the picture of each row; None when there is one a row.

        Raises:
            UserError: pictures and rows, or image tokens and features, differ in number, or
                `image_index` names no picture.
        """
        if image_index is not None:
            index = _picture_index(image_index, len(features.tokens), len(rows.ids))
            features = features.map(lambda tokens: tokens[index])
        return forward.hidden_states(self.vlm, features, rows)

    def query_state(
        self, features: Features, instructions: Sequence[str], image_index: Tensor | None = None
    ) -> Tensor:
        """The query's last hidden state (R, D), float32."""
        rows = self.prompt(instructions)
        return self.at_query(self.states(features, rows, image_index), rows).float()

    def at_query(self, states: Tensor, rows: Rows) -> Tensor:
        """Picks the query's (R, D) of all states (R, L, D)."""
        last = -1 if self.base.config.is_encoder_decoder else rows.last
        return states[torch.arange(len(states)), last]

    def word_logits(self, states: Tensor) -> Tensor:
        """Scores (..., V) of every word by the tied word embeddings."""
        return states @ self.vlm.words.T.to(states.dtype)

    # --- actions -----------------------------------------------------------------------------

    def predict(
        self, features: Features, rows: Rows, image_index: Tensor | None = None
    ) -> Prediction:
        """Predicts normalised actions from features and prompts.

        Args:
            features: of B pictures, from `encode` or changed by `Features.map`; gradients flow
                into them.
            rows: R rows from `prompt`.
            image_index: (R,) the picture of each row; None when there is one a row.
        """
        return self.head(self.at_query(self.states(features, rows, image_index), rows).float())

    def forward(
        self, images: Images, instructions: Sequence[str], image_index: Tensor | None = None
    ) -> Prediction:
        """Predicts normalised actions: arm (R, n, 6) in [-1, 1] and gripper logits (R, n).

        Args:
            images: B pictures; see `vlm4vla.model.images.to_pixels`.
            instructions: R instructions.
            image_index: (R,) the picture of each instruction; None when there is one each.
        """
        return self.predict(self.encode(images), self.prompt(instructions), image_index)

    def loss(
        self,
        prediction: Prediction,
        arm: Tensor,
        gripper: Tensor,
        weight: Tensor,
        gripper_weight: float = 0.01,
    ) -> Tensor:
        """Huber + `gripper_weight` x BCE over steps with a weight; see `action_loss`."""
        moves = torch.tensor(self.spec.moves, device=self.device)
        return action_loss(prediction, arm, gripper, weight, moves, gripper_weight=gripper_weight)

    @torch.inference_mode()
    def act(
        self,
        images: Images,
        instructions: Sequence[str],
        change: Callable[[Features], Features] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Chunks of actions (B, n, 7) in the environment's units, every number finite.

        Args:
            images: B pictures; see `vlm4vla.model.images.to_pixels`.
            instructions: B instructions.
            change: of the picture features before the language model reads them; None for none.

        Raises:
            UserError: the numbers of pictures and instructions differ, a picture is not what it
                should be, or no finite action comes out; the message names what is not finite.
        """
        pixels, rows = self.pixels(images), self.prompt(instructions)
        if len(pixels) != len(rows.ids):
            raise UserError(f"{len(pixels)} pictures came with {len(rows.ids)} instructions.")
        features = self.encode_pixels(pixels)
        prediction = self.predict(change(features) if change else features, rows)
        arm, gripper = (part.float().cpu().numpy() for part in prediction)
        if not (np.isfinite(arm).all() and np.isfinite(gripper).all()):
            if name := first_not_finite(self.named_parameters()):
                raise UserError(f"The weight {name!r} is not finite, so there is no action.")
            dtype = str(self.base.dtype).removeprefix("torch.")
            raise UserError(
                f"The VLM's states are not finite in {dtype}, although its weights are.",
                "Load it with dtype=torch.bfloat16 or torch.float32.",
            )
        return self.spec.unnormalise(arm, gripper)


def _check_text(instruction: Any) -> None:
    if not isinstance(instruction, str):
        kind = type(instruction).__name__
        raise UserError(f"An instruction must be a sentence, not {kind}.")
    try:
        instruction.encode()
    except UnicodeEncodeError as error:
        sign = instruction[error.start]
        raise UserError(f"An instruction holds {sign!r}, half a character.") from error


def _picture_index(index: Any, pictures: int, rows: int) -> Tensor:
    """The picture of each row, checked: a negative one would be counted from the end."""
    found = torch.as_tensor(index)
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if not whole or found.shape != (rows,) or not bool(((found >= 0) & (found < pictures)).all()):
        raise UserError(
            f"image_index must name one of {pictures} pictures, from 0 on, for each of {rows} "
            f"rows, not {str(found.tolist())[:60]}."
        )
    return found
