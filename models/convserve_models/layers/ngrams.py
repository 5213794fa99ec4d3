"""What single words and pairs of words say by themselves: a linear model inside the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ngrams(nn.Module):
    """Hashes of words `int64 [N, L]`, 0 = nothing -> evidence `[N, labels]`.

    Every word and every pair of neighbours adds a row of a table, found by its hash; the sum is
    divided by the length of the vector of their rarities (tf-idf). The table is not learned by
    gradient descent but fitted at once (`convserve_models.evidence`).
    """

    def __init__(self, rows: int, labels: int) -> None:
        super().__init__()
        self.rows = rows
        self.register_buffer("rarity", torch.zeros(rows))
        self.register_buffer("table", torch.zeros(rows, labels))
        self.register_buffer("bias", torch.zeros(labels))

    def forward(self, ids: Tensor) -> Tensor:
        """Sum up what was counted."""
        rows, found = self.places(ids)
        said = nn.functional.embedding(rows, self.get_buffer("table")) * found.unsqueeze(-1)
        squares = (self.get_buffer("rarity")[rows] ** 2 * found).sum(1, keepdim=True)
        return said.sum(1) / squares.clamp(min=1).sqrt() + self.get_buffer("bias")

    def places(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of all words and pairs, and 1.0 for those that are there."""
        first, second = ids[:, :-1], ids[:, 1:]
        rows = torch.cat([ids, first * 31 + second], 1) % self.rows
        there = torch.cat([ids != 0, (first != 0) & (second != 0)], 1)
        return rows, there.float()
