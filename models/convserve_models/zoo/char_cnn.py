"""Character-level ConvNet: Zhang & LeCun, *Text Understanding from Scratch*, arXiv 1502.01710.

The small network of the paper (length 1014, 256 features, 1024 hidden units, no batch norm) has
11,339,780 parameters for 4 labels. A convolution over one-hot columns starts from ids here: an
identity table with a zero row for unknown characters makes the same columns inside the graph.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convserve_models.alphabet import CREPE
from convserve_models.layers.logits import he

# (kernel, pooling) of each convolution.
LAYERS = [(7, 3), (7, 3), (3, 1), (3, 1), (3, 1), (3, 3)]


def final_length(length: int) -> int:
    """Positions left after the last pooling: (length - 96) / 27, the paper's rule."""
    for kernel, pooling in LAYERS:
        length = (length - kernel + 1) // pooling
    return length


class CharCNN(nn.Module):
    """Logits `[N, labels]` of character ids `int64 [N, length]`, 0 = unknown or padding."""

    paper = "https://arxiv.org/abs/1502.01710"
    fully_convolutional = False
    variable_length = False
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 4}
    paper_parameters = 11_339_780
    tiny: ClassVar[dict[str, Any]] = {
        "labels": 4, "length": 150, "features": 8, "hidden": 16, "batch_norm": True,
    }  # fmt: skip

    def __init__(
        self,
        labels: int,
        length: int = 1014,
        features: int = 256,
        hidden: int = 1024,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        symbols = len(CREPE)
        one_hot = torch.cat([torch.zeros(1, symbols), torch.eye(symbols)])
        self.register_buffer("one_hot", one_hot, persistent=False)
        layers: list[nn.Module] = []
        channels = symbols
        for kernel, pooling in LAYERS:
            layers += [nn.Conv1d(channels, features, kernel, bias=not batch_norm)]
            layers += [nn.BatchNorm1d(features)] if batch_norm else []
            layers += [nn.ReLU()]
            layers += [nn.MaxPool1d(pooling)] if pooling > 1 else []
            channels = features
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(final_length(length) * features, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, labels),
        )
        # The paper's N(0, .05) suits its width only; He's rule scales with the layer.
        self.apply(he)

    @staticmethod
    def example(n: int, length: int = 1014, **_: Any) -> Tensor:
        """Random ids, unknown ones among them."""
        return torch.randint(0, len(CREPE) + 1, (n, length))

    def forward(self, ids: Tensor) -> Tensor:
        """Read ids as one-hot columns and classify them."""
        columns = nn.functional.embedding(ids, self.get_buffer("one_hot")).transpose(1, 2)
        logits: Tensor = self.classifier(self.features(columns))
        return logits
