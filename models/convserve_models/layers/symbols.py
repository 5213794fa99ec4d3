"""The first layer of a text network that learns its symbols: ids in, columns out."""

from __future__ import annotations

from torch import Tensor, nn


class Symbols(nn.Embedding):
    """Ids `int64 [N, L]` -> learned columns `float32 [N, C, L]`, channels first."""

    def forward(self, ids: Tensor) -> Tensor:
        """Look up each id, then put channels before positions."""
        return super().forward(ids).transpose(1, 2)
