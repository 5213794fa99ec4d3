"""A language model of the QRNN: Bradbury et al., *Quasi-Recurrent Neural Networks*, 1611.01576.

It predicts each word from those before it, and from those after it where it reads both ways. What
it learns from texts without labels is where classifiers start (Howard & Ruder, 1801.06146).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convserve_models.layers.reader import Reader


class WordModel(nn.Module):
    """Nats per word `[N]` of hashes of words `int64 [N, length]`, 0 = nothing.

    What is predicted is the first of the word's two rows, not the word.
    """

    paper = "https://arxiv.org/abs/1611.01576"
    fully_convolutional = False
    variable_length = False
    tiny: ClassVar[dict[str, Any]] = {"rows": 64, "columns": 8, "features": 6, "layers": 2}

    def __init__(self, **reader: Any) -> None:
        super().__init__()
        self.reader = Reader(**reader)
        rows, columns = self.reader.words.table.weight.shape
        self.down = nn.ModuleList(nn.Linear(outputs, columns) for outputs in self.reader.outputs)
        self.next = nn.Linear(columns, rows)

    @staticmethod
    def example(n: int, **_: Any) -> Tensor:
        """Random hashes of texts of 20 words at most."""
        lengths = torch.randint(2, 21, (n, 1))
        return torch.randint(1, 2**32, (n, 20)) * (torch.arange(20) < lengths)

    def forward(self, ids: Tensor) -> Tensor:
        """Average over the words that have a neighbour on the side it is predicted from."""
        _, features, _ = self.reader(ids)
        known = (ids != 0).float()
        pairs = [(slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))]
        both = [
            self._nats(down(maps[..., here].transpose(1, 2)), ids[:, there], known[:, there])
            for down, maps, (here, there) in zip(self.down, features, pairs, strict=False)
        ]
        return torch.stack(both).mean(0)

    def _nats(self, columns: Tensor, ids: Tensor, known: Tensor) -> Tensor:
        row, _ = self.reader.words.rows(ids)
        logits = self.next(columns).flatten(0, 1)
        nats = F.cross_entropy(logits, row.flatten(), reduction="none").view_as(known) * known
        return nats.sum(1) / known.sum(1).clamp(min=1)
