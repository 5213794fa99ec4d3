"""Poolings that torch does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KMaxPool1d(nn.Module):
    """`[N, C, L]` -> `[N, C, k]`: the k largest values of each channel, in their original order.

    Kalchbrenner et al., *A Convolutional Neural Network for Modelling Sentences*, 1404.2188. Of
    equal values the earlier ones are kept. Raises `RuntimeError` where L is below k.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, maps: Tensor) -> Tensor:
        """Mark the k largest, then read the marked positions from first to last."""
        backwards = torch.arange(maps.shape[-1], 0, -1, device=maps.device)
        positions = (self._largest(maps) * backwards).topk(self.k).indices
        return maps.gather(-1, positions)

    def _largest(self, maps: Tensor) -> Tensor:
        # Behind a ReLU ties are common, and each runtime's top-k breaks them as it likes: only the
        # k-th value is taken from it, never which of the equal ones.
        least = maps.topk(self.k, sorted=False).values.amin(-1, keepdim=True)
        above, equal = maps > least, maps == least
        missing = self.k - above.sum(-1, keepdim=True)
        return above | (equal & (equal.cumsum(-1) <= missing))
