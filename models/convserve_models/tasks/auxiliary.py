"""Auxiliary classifiers: side exits that bring a gradient to the middle of a deep network.

Szegedy et al., 1409.4842, §5. They belong to training alone: the network does not know of them, and
its graph is without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

WEIGHT = 0.3
"""Of each side exit's loss, as in the paper."""
POOL, STRIDE = 5, 3


class Auxiliary(nn.ModuleList):
    """A head on each named part of a network, which gives `[N, C, H, W]`, H and W at least 5.

    `example` is a batch that the network takes: it tells the size of the maps.
    """

    def __init__(
        self, network: nn.Sequential, parts: Sequence[str], example: Tensor, labels: int
    ) -> None:
        super().__init__()
        self.maps: dict[str, Tensor] = {}
        if not parts:
            return
        for part in parts:
            watched = network[-1].get_submodule(part)
            watched.register_forward_hook(partial(self._keep, part))
        with torch.no_grad():
            network.eval()(example)
        self.extend(_head(self.maps[part].shape[1:], labels) for part in parts)

    def _keep(self, part: str, _module: nn.Module, _inputs: Any, maps: Tensor) -> None:
        self.maps[part] = maps

    def loss(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """The heads' weighted losses on the last batch; `of` gives the loss of one's logits."""
        exits = [of(head(maps)) for head, maps in zip(self, self.maps.values(), strict=True)]
        return WEIGHT * torch.stack(exits).sum()


def _head(shape: Sequence[int], labels: int) -> nn.Module:
    channels, *sizes = shape
    positions = prod((size - POOL) // STRIDE + 1 for size in sizes)
    return nn.Sequential(
        nn.AvgPool2d(POOL, STRIDE),
        nn.Conv2d(channels, 128, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128 * positions, 1024),
        nn.ReLU(),
        nn.Dropout(0.7),
        nn.Linear(1024, labels),
    )
