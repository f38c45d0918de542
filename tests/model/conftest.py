import numpy as np
import pytest

from vlm4vla import action
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.policy import Policy
from vlm4vla.model.tokenizer import CORPUS
from vlm4vla.model.vlm import make_tiny

# The preset of Qwen3-VL is made for training; its class is tested at a smaller size.
SMALL = {
    "qwen3-vl": {
        "vision_layers": 3,
        "vision_width": 64,
        "language_layers": 2,
        "language_width": 64,
        "heads": 4,
    }
}


def make(family="qwen3-vl", **changes):
    return make_tiny(CORPUS, family, **(SMALL.get(family, {}) | changes))


@pytest.fixture
def small():
    """Makes the smallest VLM of a family."""
    return make


@pytest.fixture(scope="session")
def policy():
    """A small policy that tests must leave as it is."""
    return Policy(make(), action.tiny(), query_init="embedding").eval()


@pytest.fixture
def pictures():
    """Four different pictures, uint8 (4, 128, 128, 3)."""
    y, x, c, k = np.mgrid[:128, :128, :3, :4]
    return np.uint8((x * (3 + k) + y * (5 + c) + 40 * c + 11 * k) % 256).transpose(3, 0, 1, 2)


@pytest.fixture
def families():
    """The registry of families, put back as it was when the test ends."""
    kept = dict(FAMILIES._items)
    yield FAMILIES
    FAMILIES._items.clear()
    FAMILIES._items.update(kept)
