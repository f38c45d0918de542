"""Attribution methods of picture cells by name; all are called alike."""

from typing import Final

from vlm4vla.attribution.attention import attention, attention_rollout
from vlm4vla.attribution.grad_cam import grad_cam
from vlm4vla.attribution.gradient import gradient_times_input, integrated_gradients
from vlm4vla.attribution.occlusion import occlusion, occlusion_blur, occlusion_grey
from vlm4vla.attribution.score import Method

METHODS: Final[dict[str, Method]] = {
    "occlusion": occlusion,
    "occlusion-grey": occlusion_grey,
    "occlusion-blur": occlusion_blur,
    "gradient": gradient_times_input,
    "integrated": integrated_gradients,
    "grad-cam": grad_cam,
    "rollout": attention_rollout,
    "attention": attention,
}
