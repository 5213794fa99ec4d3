"""The first layer of every image network: bytes in, normalised channels out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """`uint8 [N, H, W, C]` -> `float32 [N, C, H, W]` with zero mean and unit deviation.

    Lives in the graph, so that no client and no server ever repeats these numbers.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise per channel, then put channels first.

        Row by row: over three numbers at a time ONNX Runtime takes ten times as long.
        """
        mean, std = (self.get_buffer(name).repeat(images.shape[2]) for name in ("mean", "std"))
        rows = (images.float().flatten(2) - mean) / std
        return rows.reshape(images.shape).permute(0, 3, 1, 2)
