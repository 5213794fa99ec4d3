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
        """Normalise per channel, then put channels first."""
        channels = (images.float() - self.get_buffer("mean")) / self.get_buffer("std")
        return channels.permute(0, 3, 1, 2)
