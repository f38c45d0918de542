"""Picture features: what one vision pass gives, and how they enter the language model.

They are handed over as arguments of the VLM's own forward. Nothing on the model is replaced or
kept, so several threads may use it at once, and whoever explains a policy may hand over others.
"""

import dataclasses
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlm4vla.errors import UserError


@dataclasses.dataclass(frozen=True)
class Features:
    """Projected features of B pictures, T vectors each, in the order of the image tokens.

    Attributes:
        tokens: (B, T, D), what the language model reads at the image tokens.
        deepstack: further (B, T, D) that Qwen3-VL adds at the same places after its first layers,
            one a layer; empty for the other families.
        output: what the VLM's own `get_image_features` returned; it gives the form in which the
            VLM wants them back.
    """

    tokens: Tensor
    deepstack: tuple[Tensor, ...]
    output: Any

    @classmethod
    def of(cls, output: Any, pictures: int) -> "Features":
        """Reads what `get_image_features` returned for `pictures` pictures."""

        def stacked(value: Any) -> Tensor:
            whole = value if isinstance(value, Tensor) else torch.stack(list(value))
            return whole.reshape(pictures, -1, whole.shape[-1])

        further = getattr(output, "deepstack_features", None) or ()
        return cls(stacked(output.pooler_output), tuple(map(stacked, further)), output)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Features":
        """Other features: `change` of the tokens and of every deepstack level alike.

        A vision token that is changed in one place only is still seen in the others, so this is
        the way to occlude, shuffle, pick or differentiate them. Gradients flow through.

        Args:
            change: (B, T, D) to (B', T, D).

        Example:
            `features.map(lambda t: t * keep[..., None])` with `keep` (B, T) sets tokens to zero;
            `features.map(lambda t: t.detach().requires_grad_())` makes leaves whose `.grad` is
            theirs.
        """
        return dataclasses.replace(
            self, tokens=change(self.tokens), deepstack=tuple(map(change, self.deepstack))
        )

    def arguments(self, base: Any, ids: Tensor, is_image: Tensor) -> dict[str, Any]:
        """Keyword arguments of the VLM's forward that hold the words and these features.

        Args:
            base: the VLM.
            ids: (R, L) token ids, where R is the number of pictures.
            is_image: (R, L) bool, the T image tokens of each row.

        Raises:
            UserError: the VLM's forward takes no deepstack levels.
        """
        known = inspect.signature(base.forward).parameters
        if "mm_encoder_outputs" in known:
            return {"input_ids": ids, "mm_encoder_outputs": {"image": self._as_returned()}}
        if self.deepstack:
            raise UserError(
                f"{type(base).__name__} of this transformers takes no deepstack features.",
                "pip install 'transformers>=5.18'",
            )
        if "image_embeds" in known:
            return {"input_ids": ids, "image_embeds": self.tokens}
        words = base.get_input_embeddings()(ids)
        places = is_image[..., None].expand_as(words)
        return {"inputs_embeds": words.masked_scatter(places, self.tokens.to(words.dtype))}

    def _as_returned(self) -> Any:
        def formed(value: Tensor, like: Any) -> Any:
            if isinstance(like, Tensor):
                return value.reshape(-1, *like.shape[1:])
            return [one.reshape(like[0].shape) for one in value]

        output = types.SimpleNamespace(**vars(self.output))
        output.pooler_output = formed(self.tokens, self.output.pooler_output)
        if self.deepstack:
            levels = zip(self.deepstack, self.output.deepstack_features, strict=True)
            output.deepstack_features = [formed(value, like) for value, like in levels]
        return output
