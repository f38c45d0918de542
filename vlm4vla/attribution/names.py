"""What can be asked for by name, without torch: methods and targets with what they mean."""

from typing import Final

METHODS: Final = {
    "occlusion": "the value minus the value with the cell in the picture's mean colour",
    "occlusion-grey": "the same with the cell in middle grey",
    "occlusion-blur": "the same with the cell blurred",
    "gradient": "gradient times input at the vision tokens",
    "integrated": "integrated gradients from the vision tokens of a plain picture",
    "grad-cam": "Grad-CAM at the vision tower's last layer",
    "rollout": "attention rollout through the vision tower; the same for every target",
    "attention": "the action query's attention to the vision tokens, over all layers and heads; "
    "the same for every target",
}

TARGETS: Final = {
    "displacement": "how far the first action goes its own way (mm)",
    "length": "how far it goes in all (mm)",
    "agreement": "minus how far it ends from where it went (mm)",
    "direction": "minus the angle by which it turns aside (degrees)",
    "gripper": "the gripper's logit",
}
