"""Attribution methods of picture cells by name; all are called alike."""

from typing import Final

from vlm4vla.attribution.gradient import gradient_times_input, integrated_gradients
from vlm4vla.attribution.occlusion import occlusion
from vlm4vla.attribution.score import Method

METHODS: Final[dict[str, Method]] = {
    "occlusion": occlusion,
    "gradient": gradient_times_input,
    "integrated": integrated_gradients,
}
