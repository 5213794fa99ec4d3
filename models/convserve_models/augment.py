"""Random variations of training batches. Each takes and returns a whole batch of raw inputs.

Images `uint8 [N, H, W, C]` are varied on the device where they lie; the same seed gives the same
batch on the same kind of device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

HOLE = 12


@dataclass(frozen=True, slots=True)
class Draw:
    """What a batch of images is varied by: chance, the samples' numbers, the epoch."""

    random: torch.Generator
    """On the images' device."""
    numbers: Tensor
    """`int64 [N]`: each sample's place in its split."""
    epoch: int

    def uniform(self) -> Tensor:
        """A number in [0, 1) per sample."""
        return torch.rand(len(self.numbers), generator=self.random, device=self.random.device)

    def integers(self, low: int, high: int) -> Tensor:
        """A whole number in [low, high] per sample, as a column."""
        shape, device = (len(self.numbers), 1), self.random.device
        return torch.randint(low, high + 1, shape, generator=self.random, device=device)


def flip(images: Tensor, draw: Draw) -> Tensor:
    """Mirror half of the images left to right."""
    return _mirror(images, draw.uniform() < 0.5)


def alternating_flip(images: Tensor, draw: Draw) -> Tensor:
    """Mirror half of the images, in the next epoch the other half (Jordan, 2404.00498, §3.6)."""
    scrambled = draw.numbers * 2_654_435_761 >> 16  # neighbours differ
    return _mirror(images, (scrambled + draw.epoch) % 2 == 1)


def shift(images: Tensor, draw: Draw, most: int) -> Tensor:
    """Shift each image by up to `most` pixels; what comes in is its reflection."""
    rows, columns = (_shifted(draw, size, most) for size in images.shape[1:3])
    numbers = torch.arange(len(images), device=images.device)
    return images[numbers[:, None, None], rows[:, :, None], columns[:, None, :]]


def window(images: Tensor, draw: Draw) -> Tensor:
    """Cut three quarters of each side out of each image, at a place of its own.

    For networks that take any size: a step costs nine sixteenths.
    """
    size = images.shape[1] * 3 // 4
    rows, columns = (
        draw.integers(0, side - size) + torch.arange(size, device=images.device)
        for side in images.shape[1:3]
    )
    numbers = torch.arange(len(images), device=images.device)
    return images[numbers[:, None, None], rows[:, :, None], columns[:, None, :]]


def cutout(images: Tensor, draw: Draw) -> Tensor:
    """Cover a square of 12 pixels, part of it maybe outside, with the batch's mean colour.

    DeVries & Taylor, *Improved Regularization … with Cutout*, 1708.04552.
    """
    rows, columns = (_in_hole(draw, size) for size in images.shape[1:3])
    colour = images.float().mean((0, 1, 2)).round().to(images.dtype)
    return torch.where((rows[:, :, None] & columns[:, None, :])[..., None], colour, images)


def _mirror(images: Tensor, which: Tensor) -> Tensor:
    return torch.where(which[:, None, None, None], images.flip(2), images)


def _shifted(draw: Draw, size: int, most: int) -> Tensor:
    """Positions `[N, size]` from -most…most on, reflected at both ends."""
    first = draw.integers(-most, most)
    positions = (first + torch.arange(size, device=first.device)).abs()
    return torch.minimum(positions, 2 * (size - 1) - positions)


def _in_hole(draw: Draw, size: int) -> Tensor:
    """Whether a position `[N, size]` is less than half a hole from a random centre."""
    centre = draw.integers(0, size - 1)
    positions = torch.arange(size, device=centre.device)
    return (positions >= centre - HOLE // 2) & (positions < centre + HOLE // 2)


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


def speed(sequences: Sequence[Floats], random: np.random.Generator) -> list[Floats]:
    """Play each up to 15 % faster or slower, the pitch with it (Ko et al., 2015)."""
    factors = random.uniform(0.85, 1.15, len(sequences))
    return [_stretched(one, factor) for one, factor in zip(sequences, factors, strict=True)]


def _stretched(sequence: Floats, factor: float) -> Floats:
    places = np.arange(0, len(sequence) - 1, factor)
    before = places.astype(int)
    after = (places - before).reshape(-1, *[1] * (sequence.ndim - 1))
    between = (1 - after) * sequence[before] + after * sequence[before + 1]
    return np.asarray(between, np.float32)


def hiss(sounds: Sequence[Floats], random: np.random.Generator) -> list[Floats]:
    """Add white noise, 15 to 60 dB below the sound."""
    levels = 10 ** (random.uniform(-60, -15, len(sounds)) / 20)
    return [
        sound + (level * sound.std() * random.standard_normal(len(sound))).astype(np.float32)
        for sound, level in zip(sounds, levels, strict=True)
    ]


def voices(cepstra: Sequence[Floats], random: np.random.Generator) -> list[Floats]:
    """Other speakers: each spectrum drawn out or drawn together by up to 12 %.

    Vocal tract length perturbation (Jaitly & Hinton, 2013), of mel cepstra `[L, C]`: cosines over
    the mel axis, each read at other places.
    """
    factors = random.uniform(0.88, 1.12, len(cepstra))
    return [
        one @ _drawn(one.shape[1], factor).T for one, factor in zip(cepstra, factors, strict=True)
    ]


def _drawn(coefficients: int, factor: float, places: int = 200) -> Floats:
    at = (np.arange(places) + 0.5) / places
    waves = np.pi * np.arange(coefficients)[:, None]
    scale = np.where(np.arange(coefficients) == 0, 1.0, 2.0)[:, None] / places
    drawn = scale * np.cos(waves * at) @ np.cos(waves * np.minimum(factor * at, 1.0)).T
    return np.asarray(drawn, np.float32)


def gaps(cepstra: Sequence[Floats], random: np.random.Generator) -> list[Floats]:
    """Replace up to three stretches of at most 0.2 s by the average (Park et al., 1904.08779)."""
    return [_gapped(one.copy(), random) for one in cepstra]


def _gapped(frames: Floats, random: np.random.Generator) -> Floats:
    average = frames.mean(axis=0)
    for _ in range(random.integers(0, 4)):
        start = int(random.integers(0, len(frames)))
        frames[start : start + int(random.integers(0, 20))] = average
    return frames


OF_IMAGES: dict[str, Callable[[Tensor, Draw], Tensor]] = {
    "flip": flip,
    "alternating_flip": alternating_flip,
    "crop": partial(shift, most=4),
    "nudge": partial(shift, most=2),
    "cutout": cutout,
    "window": window,
}
OF_SEQUENCES: dict[str, Callable[[list[Any], np.random.Generator], list[Any]]] = {
    "words": words,
    "speed": speed,
    "hiss": hiss,
    "voices": voices,
    "gaps": gaps,
}


def images(batch: Tensor, names: Sequence[str], draw: Draw) -> Tensor:
    """Apply the named variations of images in order."""
    for name in names:
        batch = OF_IMAGES[name](batch, draw)
    return batch


def sequences(batch: list[Any], names: Sequence[str], random: np.random.Generator) -> list[Any]:
    """Apply the named variations of texts, sounds or cepstra in order."""
    for name in names:
        batch = OF_SEQUENCES[name](batch, random)
    return batch
