"""VLM4VLA: turn any vision-language model into a robot policy, and see why it does what it does."""

__version__ = "0.1.0"
