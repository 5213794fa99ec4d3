"""QRNN: Bradbury et al., *Quasi-Recurrent Neural Networks*, arXiv 1611.01576, for texts of words.

Words come as hashes, two rows of a small table each; layers of causal convolutions with f-, fo- or
ifo-pooling read them, optionally densely connected and in both directions; the largest and the mean
of each feature are classified. The paper's sentiment network (4 x 256 densely connected, window 2,
300 columns) reads one way and classifies the last state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convserve_models.layers.logits import Logits
from convserve_models.layers.reader import Reader, summary


class QRNN(nn.Module):
    """Logits `[N, labels]` of hashes of words `int64 [N, length]`, 0 = nothing."""

    paper = "https://arxiv.org/abs/1611.01576"
    fully_convolutional = False
    variable_length = True
    paper_arguments: ClassVar[dict[str, Any]] = {
        "labels": 2, "rows": 16384, "columns": 300, "features": 256, "layers": 4, "hidden": 256,
        "both_ways": False,
    }  # fmt: skip
    paper_parameters = 9_799_426
    tiny: ClassVar[dict[str, Any]] = {
        "labels": 4, "rows": 64, "columns": 8, "features": 6, "layers": 2, "hidden": 16,
    }  # fmt: skip

    def __init__(self, labels: int, hidden: int, dropout: float = 0.0, **reader: Any) -> None:
        super().__init__()
        self.reader = Reader(**reader)
        channels = self.reader.words.table.embedding_dim + sum(self.reader.outputs)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * channels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            Logits(hidden, labels),
        )

    @staticmethod
    def example(n: int, **_: Any) -> Tensor:
        """Random hashes of texts of 20 words at most."""
        lengths = torch.randint(1, 21, (n, 1))
        return torch.randint(1, 2**32, (n, 20)) * (torch.arange(20) < lengths)

    def forward(self, ids: Tensor) -> Tensor:
        """Read in each direction and classify what was strongest and what was usual."""
        columns, features, mask = self.reader(ids)
        logits: Tensor = self.classifier(summary(torch.cat([columns, *features], 1), mask))
        return logits
