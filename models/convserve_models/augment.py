"""Random variations of training batches. Each takes and returns a whole batch of raw inputs.

Images `uint8 [N, H, W, C]` are varied on the device where they lie; the same seed gives the same
batch on the same kind of device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

SHIFT = 4
HOLE = 12


def flip(images: Tensor, random: torch.Generator) -> Tensor:
    """Mirror half of the images left to right."""
    mirrored = _uniform(len(images), random) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(2), images)


def crop(images: Tensor, random: torch.Generator) -> Tensor:
    """Shift each image by up to 4 pixels; what comes in is its reflection."""
    n, height, width, _ = images.shape
    rows, columns = (_shifted(n, size, random) for size in (height, width))
    numbers = torch.arange(n, device=images.device)
    return images[numbers[:, None, None], rows[:, :, None], columns[:, None, :]]


def cutout(images: Tensor, random: torch.Generator) -> Tensor:
    """Cover a square of 12 pixels, part of it maybe outside, with the batch's mean colour.

    DeVries & Taylor, *Improved Regularization … with Cutout*, 1708.04552.
    """
    n, height, width, _ = images.shape
    rows, columns = (_in_hole(n, size, random) for size in (height, width))
    colour = images.float().mean((0, 1, 2)).round().to(images.dtype)
    return torch.where((rows[:, :, None] & columns[:, None, :])[..., None], colour, images)


def _shifted(n: int, size: int, random: torch.Generator) -> Tensor:
    """Positions `[N, size]` from -4…4 on, reflected at both ends."""
    first = torch.randint(-SHIFT, SHIFT + 1, (n, 1), generator=random, device=random.device)
    positions = (first + torch.arange(size, device=random.device)).abs()
    return torch.minimum(positions, 2 * (size - 1) - positions)


def _in_hole(n: int, size: int, random: torch.Generator) -> Tensor:
    """Whether a position `[N, size]` is less than half a hole from a random centre."""
    centre = torch.randint(0, size, (n, 1), generator=random, device=random.device)
    positions = torch.arange(size, device=random.device)
    return (positions >= centre - HOLE // 2) & (positions < centre + HOLE // 2)


def _uniform(n: int, random: torch.Generator) -> Tensor:
    return torch.rand(n, generator=random, device=random.device)


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


OF_IMAGES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "flip": flip,
    "crop": crop,
    "cutout": cutout,
}
OF_TEXTS: dict[str, Callable[[Sequence[str], np.random.Generator], list[str]]] = {"words": words}


def images(batch: Tensor, names: Sequence[str], random: torch.Generator) -> Tensor:
    """Apply the named variations of images in order; `random` lives on the batch's device."""
    for name in names:
        batch = OF_IMAGES[name](batch, random)
    return batch


def texts(batch: list[str], names: Sequence[str], random: np.random.Generator) -> list[str]:
    """Apply the named variations of texts in order."""
    for name in names:
        batch = OF_TEXTS[name](batch, random)
    return batch
