"""What a training step eats: batches of varied samples, as tensors on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from convserve_models import augment, network
from convserve_models.data import Split
from convserve_models.recipe import Recipe


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
        self.recipe, self.split, self.device = recipe, split, device

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        random = np.random.default_rng((self.recipe.seed, epoch))
        order = random.permutation(len(self.split))
        for batch in network.batches(self.split, self.recipe.batch_size, order):
            varied = augment.sequences(list(batch.inputs), self.recipe.augment, random)
            inputs = network.tensor(self.recipe, Split(varied, batch.labels))
            labels = torch.from_numpy(batch.labels)
            yield (
                inputs.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )
