"""The policy: a VLM, one action query after its prompt, and an MLP on the query's hidden state.

Nothing here knows which VLM it is. Shapes: B pictures, R rows (a row is one instruction for one
picture), L tokens, T image tokens, D hidden size, n actions a chunk.
"""

import contextlib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vlm4vla.action import ActionSpec, tiny
from vlm4vla.errors import UserError
from vlm4vla.model.family import Rows
from vlm4vla.model.head import ActionHead, Prediction, action_loss
from vlm4vla.model.images import to_pixels
from vlm4vla.model.load import load_vlm
from vlm4vla.model.prompt import build_rows, split_for_decoder
from vlm4vla.model.query import attach_query
from vlm4vla.model.vlm import Vlm

Images = npt.NDArray[np.uint8] | Tensor


class Features(NamedTuple):
    """What one vision pass gives for B pictures.

    Attributes:
        tokens: (B, T, D) projected image features, in the order of the image tokens.
        output: everything the VLM's own `get_image_features` returned.
        pixels: the tensors it was given.
    """

    tokens: Tensor
    output: Any
    pixels: dict[str, Tensor]


class Policy(nn.Module):
    """Turns a picture and an instruction into a chunk of actions.

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
        self.query = nn.Parameter(_initial_query(vlm, query_init))
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
        """
        loaded = vlm if isinstance(vlm, Vlm) else load_vlm(vlm, dtype, device, init)
        return cls(loaded, spec or tiny(), query_init)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device | None = None
    ) -> "Policy":
        """Loads a checkpoint folder; see `vlm4vla.model.checkpoint.load`."""
        from vlm4vla.model.checkpoint import load  # it imports this module

        return load(folder, device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a checkpoint folder; see `vlm4vla.model.checkpoint.save`."""
        from vlm4vla.model.checkpoint import save  # it imports this module

        save(self, folder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.query.device

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

    def encode(self, images: Images) -> Features:
        """Runs the vision tower and the projector.

        Args:
            images: (B, H, W, 3), uint8 RGB.
        """
        family, config = self.vlm.family, self.base.config
        pictures = to_pixels(images, family.side(config), family.mean_std, self.device)
        given = family.pixels(pictures.to(self.base.dtype), config)
        output = self.base.get_image_features(**given, return_dict=True)
        tokens = output.pooler_output
        if not isinstance(tokens, Tensor):
            tokens = torch.stack(list(tokens))
        return Features(tokens.reshape(len(pictures), -1, tokens.shape[-1]), output, given)

    # --- the language model over rows --------------------------------------------------------

    def rows(self, texts: Sequence[str], answers: Sequence[str] | None = None) -> Rows:
        """Prompts as tokens.

        Args:
            texts: R user's sentences (`vlm.family.text` makes one from an instruction).
            answers: R texts to be written, or None for the action query.
        """
        vlm = self.vlm
        return build_rows(vlm.tokenizer, vlm.family, vlm.image_tokens, texts, answers, self.device)

    def states(self, features: Features, rows: Rows, image_index: Tensor | None = None) -> Tensor:
        """Last hidden states (R, L, D) of the VLM's own forward; of the decoder if it has one.

        Args:
            features: of B pictures; gradients flow into them.
            rows: R rows.
            image_index: (R,) the picture of each row; None when there is one a row.
        """
        config = self.base.config
        text = {"input_ids": rows.ids, "attention_mask": rows.attention}
        if config.is_encoder_decoder:
            text = split_for_decoder(rows, config.get_text_config().decoder_start_token_id)
        with _given_features(self.base, features, image_index):
            output = self.base(
                **text,
                **self.vlm.family.inputs(rows, config),
                pixel_values=features.pixels["pixel_values"],
                use_cache=False,
            )
        states: Tensor = output.last_hidden_state
        return states

    def query_state(
        self, features: Features, instructions: Sequence[str], image_index: Tensor | None = None
    ) -> Tensor:
        """The query's last hidden state (R, D), float32."""
        rows = self.rows([self.vlm.family.text(i) for i in instructions])
        return self.at_query(self.states(features, rows, image_index), rows).float()

    def at_query(self, states: Tensor, rows: Rows) -> Tensor:
        """Picks the query's (R, D) of all states (R, L, D)."""
        last = -1 if self.base.config.is_encoder_decoder else rows.last
        return states[torch.arange(len(states)), last]

    def word_logits(self, states: Tensor) -> Tensor:
        """Scores (..., V) of every word by the tied word embeddings."""
        return states @ self.vlm.words.T.to(states.dtype)

    # --- actions -----------------------------------------------------------------------------

    def forward(
        self, images: Images, instructions: Sequence[str], image_index: Tensor | None = None
    ) -> Prediction:
        """Predicts normalised actions: arm (R, n, 6) in [-1, 1] and gripper logits (R, n).

        Args:
            images: (B, H, W, 3), uint8 RGB.
            instructions: R instructions.
            image_index: (R,) the picture of each instruction; None when there is one each.
        """
        return self.head(self.query_state(self.encode(images), instructions, image_index))

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
    def act(self, images: Images, instructions: Sequence[str]) -> npt.NDArray[np.float32]:
        """Chunks of actions (B, n, 7) in the environment's units.

        Args:
            images: (B, H, W, 3), uint8 RGB.
            instructions: B instructions.

        Raises:
            UserError: the numbers of pictures and instructions differ.
        """
        if len(images) != len(instructions):
            raise UserError(f"{len(images)} pictures came with {len(instructions)} instructions.")
        prediction = self(images, instructions)
        return self.spec.unnormalise(
            prediction.arm.float().cpu().numpy(), prediction.gripper.float().cpu().numpy()
        )


def _initial_query(vlm: Vlm, how: str) -> Tensor:
    device = vlm.words.device
    if how == "zero":
        return torch.zeros(vlm.width, device=device)
    if how == "embedding":
        with torch.no_grad():
            some = torch.arange(min(4096, len(vlm.words)), device=device)
            scale = vlm.base.get_input_embeddings()(some).float().std().cpu()
        draw = torch.randn(vlm.width, generator=torch.Generator().manual_seed(0))
        return (draw * scale).to(device)
    raise UserError(f"Unknown start of the query {how!r}; known: zero, embedding.")


@contextlib.contextmanager
def _given_features(base: Any, features: Features, image_index: Tensor | None) -> Iterator[None]:
    """Lets the VLM's forward use features that exist, for as many rows as ask for them."""
    output = types.SimpleNamespace(**vars(features.output))
    if image_index is not None:
        for key in ("pooler_output", "deepstack_features"):
            if (value := getattr(output, key, None)) is not None:
                setattr(output, key, _pick(value, image_index, len(features.tokens)))
    base.get_image_features = lambda *args, **kwargs: output
    try:
        yield
    finally:
        del base.get_image_features


def _pick(value: Any, index: Tensor, count: int) -> Any:
    """Repeats features for rows: tensors (count, ...), or lists of `count`, or lists of those."""
    if isinstance(value, Tensor):
        return value[index]
    if len(value) == count and isinstance(value[0], Tensor):
        return [value[i] for i in index.tolist()]
    return [_pick(item, index, count) for item in value]
