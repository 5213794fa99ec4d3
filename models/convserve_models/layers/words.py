"""The first layer of a network that reads words by their hashes: ids in, columns out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HashedWords(nn.Module):
    """Hashes `int64 [N, L]` -> learned columns `float32 [N, C, L]`, zero where the id is 0.

    A word's column is the sum of two rows of one small table, found by two remainders of its hash:
    two words rarely share both (Svenstrup, Hansen & Winther, *Hash Embeddings*, 1709.03933). In
    training, a share `dropped` of the words is left out, as if it were not there.
    """

    def __init__(self, rows: int, columns: int, dropped: float) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, columns)
        self.dropped = dropped
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the columns and the mask `float32 [N, 1, L]` of the words that are read."""
        if self.training:
            ids = ids * (torch.rand(ids.shape, device=ids.device) >= self.dropped)
        mask = (ids != 0).unsqueeze(1).float()
        first, second = self.rows(ids)
        columns = self.table(first) + self.table(second)
        return columns.transpose(1, 2) * mask, mask

    def rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The two rows of each id; any integer has some.

        Remainders by two numbers without a common divisor are independent of each other.
        """
        rows = self.table.num_embeddings
        return ids % rows, ids % (rows - 1)
