"""Random variations of training batches. Each takes and returns a whole batch of raw inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
PAD = 4


def flip(images: Images, random: np.random.Generator) -> Images:
    """Mirror half of the images left to right."""
    mirrored = random.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def crop(images: Images, random: np.random.Generator) -> Images:
    """Shift each image by up to 4 pixels; what comes in is its reflection."""
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), mode="reflect")
    rows = random.integers(0, 2 * PAD + 1, (n, 1)) + np.arange(height)
    columns = random.integers(0, 2 * PAD + 1, (n, 1)) + np.arange(width)
    return np.asarray(padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]])


def words(texts: Sequence[str], random: np.random.Generator) -> list[str]:
    """Drop a tenth of the words and swap a few neighbours (Wei & Zou, 1901.11196)."""
    return [_shaken(text.split(" "), random) for text in texts]


def _shaken(tokens: list[str], random: np.random.Generator) -> str:
    kept = [
        token for token, dice in zip(tokens, random.random(len(tokens)), strict=True) if dice > 0.1
    ]
    for _ in range(len(kept) // 15):
        first = int(random.integers(0, max(1, len(kept) - 1)))
        kept[first : first + 2] = kept[first : first + 2][::-1]
    return " ".join(kept or tokens)


AUGMENTATIONS: dict[str, Callable[[Any, np.random.Generator], Any]] = {
    "flip": flip,
    "crop": crop,
    "words": words,
}


def augment(inputs: Any, names: Sequence[str], random: np.random.Generator) -> Any:
    """Apply the named variations in order."""
    for name in names:
        inputs = AUGMENTATIONS[name](inputs, random)
    return inputs
