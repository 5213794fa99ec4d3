"""A first layer that is not learned: it whitens the patches of the training images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 5e-4
"""Added to the variances, so that directions without any are not blown up."""


class Whitening(nn.Conv2d):
    """`[N, C, H, W]` -> `[N, 2·C·k², H-k+1, W-k+1]`: patches along their principal directions.

    Each direction comes with its negative, each with variance 1. Fitted to the first batch it sees
    in training, then frozen; only its bias is learned.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, 2 * channels * kernel**2, kernel)
        self.weight.requires_grad = False
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, images: Tensor) -> Tensor:
        """Fit where that has not been done, then convolve."""
        if self.training and not self.get_buffer("fitted"):
            self._fit(images)
        return super().forward(images)

    @torch.no_grad()
    def _fit(self, images: Tensor) -> None:
        patches = F.unfold(images.double(), self.kernel_size).transpose(1, 2).flatten(0, 1)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        scaled = directions.T / (variances[:, None] + EPSILON).sqrt()
        self.weight.copy_(torch.cat([scaled, -scaled]).view_as(self.weight))
        self.get_buffer("fitted").fill_(True)
