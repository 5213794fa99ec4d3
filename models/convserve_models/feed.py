"""What a training step eats: batches of varied samples, as tensors on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convserve_models import augment, network
from convserve_models.data import Split
from convserve_models.recipe import Recipe

POOL = 16
"""Batches whose sequences are sorted by length together."""


class Feed(Protocol):
    """A training split, ready to be asked for epochs."""

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass, shuffled and varied by the recipe's seed and the epoch alone."""


def feed(recipe: Recipe, split: Split, device: torch.device) -> Feed:
    """Return the feed of a split: images stay on the device, sequences go there by batches."""
    return (_Sequences if isinstance(split.inputs, list) else _Images)(recipe, split, device)


class _Images:
    """The whole split lies on the device, and is varied there."""

    def __init__(self, recipe: Recipe, split: Split, device: torch.device) -> None:
        self.recipe = recipe
        self.inputs = network.tensor(recipe, split).to(device)
        self.labels = torch.from_numpy(split.labels).to(device)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.inputs.device
        random = torch.Generator(device).manual_seed(self.recipe.seed * 1000 + epoch)
        order = torch.randperm(len(self.labels), generator=random, device=device)
        for part in torch.split(order, self.recipe.batch_size):
            draw = augment.Draw(random, part, epoch)
            varied = augment.images(self.inputs[part], self.recipe.augment, draw)
            yield varied, self.labels[part]


class _Sequences:
    """Texts are varied as strings and sounds in their length, so each batch is made anew."""

    def __init__(self, recipe: Recipe, split: Split, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.split = split if recipe.augment else network.read(recipe, split)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        random = np.random.default_rng((self.recipe.seed, epoch))
        variable = self.recipe.preprocess.variable  # else nothing is padded to its neighbours
        lengths = np.array([len(one) if variable else 0 for one in self.split.inputs])
        for part in _alike(lengths, self.recipe.batch_size, random):
            batch = self.split.take(part)
            varied = augment.sequences(list(batch.inputs), self.recipe.augment, random)
            inputs = network.tensor(self.recipe, Split(varied, batch.labels))
            labels = torch.from_numpy(batch.labels)
            yield (
                inputs.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )


def _alike(
    lengths: NDArray[np.int64], size: int, random: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """All positions, in shuffled batches of like lengths: padding costs as much as sound."""
    order = random.permutation(len(lengths))
    pools = [order[start : start + POOL * size] for start in range(0, len(order), POOL * size)]
    sorted_pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    parts = [p[at : at + size] for p in sorted_pools for at in range(0, len(p), size)]
    return (parts[i] for i in random.permutation(len(parts)))
