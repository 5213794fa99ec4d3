"""Reads words in both directions: what networks that classify and that predict words share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from convserve_models.layers.quasi import Pooling, QuasiRecurrentStack
from convserve_models.layers.words import HashedWords


class Reader(nn.Module):
    """Hashes of words `int64 [N, L]`, 0 = nothing -> columns, features of each direction, mask.

    All are `[N, channels, L]`. Zeros at either end change nothing, however many they are: their
    columns and features are zero, and they leave the states of the recurrences as they are.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        features: int,
        layers: int,
        window: int = 2,
        pooling: Pooling | Literal["lstm"] = "fo",
        dense: bool = True,
        both_ways: bool = True,
        zoneout: float = 0.0,
        dropout: float = 0.0,
        dropped_words: float = 0.0,
    ) -> None:
        super().__init__()
        self.words = HashedWords(rows, columns, dropped_words)
        self.ways = nn.ModuleList(
            QuasiRecurrentStack(
                columns,
                features,
                layers,
                window,
                pooling,
                dense=dense,
                zoneout=zoneout,
                dropout=dropout,
            )
            for _ in range(1 + both_ways)
        )
        self.outputs = [features * layers if dense else features] * (1 + both_ways)

    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Return the words' columns, the features of each direction, and the mask."""
        columns, mask = self.words(ids)
        forward, *backward = self.ways
        features = [forward(columns, mask)]
        features += [way(columns.flip(-1), mask.flip(-1)).flip(-1) for way in backward]
        return columns, features, mask


def summary(maps: Tensor, mask: Tensor) -> Tensor:
    """Maps `[N, C, L]` -> `[N, 2·C]`: the largest value and the mean of what the mask keeps."""
    read = mask.sum(-1).clamp(min=1)
    largest = maps.masked_fill(mask == 0, -1e4).amax(-1)
    return torch.cat([largest, maps.sum(-1) / read], 1)
