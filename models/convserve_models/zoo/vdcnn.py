"""VDCNN: Conneau et al., *Very Deep Convolutional Networks for NLP*, arXiv 1606.01781.

Learned columns of characters, then four levels of blocks of two 3-wide convolutions; each level
has twice the features and half the positions of the one before. The eight largest values of every
feature, in their order, go through three fully connected layers. The paper's form (1,024
characters of 71 symbols, 4 labels) has 14,178,100 parameters at depth 9.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from convserve_models.layers.logits import Logits, he
from convserve_models.layers.pooling import KMaxPool1d
from convserve_models.layers.symbols import Symbols

COLUMN = 16
FEATURES = (64, 128, 256, 512)
# Convolutions per level; with the first one they make the depth.
LEVELS = {9: (2, 2, 2, 2), 17: (4, 4, 4, 4), 29: (10, 10, 4, 4), 49: (16, 16, 10, 6)}

Halving = Literal["convolution", "k_max", "max"]
"""What halves the positions between levels: the next convolution's stride or a pooling."""


class VDCNN(nn.Module):
    """Logits `[N, labels]` of character ids `int64 [N, length]`, 0 = unknown or padding.

    With `bias` it has the paper's parameters; a bias before a normalisation has no effect.
    `dropout` (the paper: none) acts on both hidden layers. Raises `ValueError` where three halvings
    of `length` leave fewer than `k` positions.
    """

    paper = "https://arxiv.org/abs/1606.01781"
    fully_convolutional = False
    variable_length = False
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 4}
    paper_parameters = 14_178_100
    tiny: ClassVar[dict[str, Any]] = {
        "labels": 4, "length": 96, "width": 0.125, "hidden": 16, "bias": False,
    }  # fmt: skip

    def __init__(
        self,
        labels: int,
        depth: int = 9,
        length: int = 1024,
        symbols: int = 71,
        width: float = 1.0,
        halving: Halving = "max",
        shortcuts: bool = False,
        k: int = 8,
        hidden: int = 2048,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        widths = [round(features * width) for features in FEATURES]
        lengths = [-(-length // 2**level) for level in range(len(FEATURES))]
        if lengths[-1] < k:
            shortest = (k - 1) * 2 ** (len(FEATURES) - 1) + 1
            left = f"{lengths[-1]} of {length} positions are left for {k}-max"
            raise ValueError(f"length: {left}; it must be at least {shortest}")
        channels = widths[0]
        layers: list[nn.Module] = [Symbols(symbols, COLUMN)]
        layers += [nn.Conv1d(COLUMN, channels, 3, padding=1)]
        for level, convolutions in enumerate(LEVELS[depth]):
            stride = 2 if level > 0 and halving == "convolution" else 1
            layers += _pooling(halving, lengths[level]) if level > 0 else []
            for _ in range(convolutions // 2):
                layers += [Block(channels, widths[level], stride, shortcuts, bias)]
                channels, stride = widths[level], 1
        self.features = nn.Sequential(*layers, KMaxPool1d(k))
        self.classifier = _classifier(k * channels, hidden, labels, dropout)
        self.apply(he)

    @staticmethod
    def example(n: int, length: int = 1024, symbols: int = 71, **_: Any) -> Tensor:
        """Random ids, unknown ones among them."""
        return torch.randint(0, symbols, (n, length))

    def forward(self, ids: Tensor) -> Tensor:
        """Read ids as columns and classify the strongest of every feature."""
        logits: Tensor = self.classifier(self.features(ids))
        return logits


class Block(nn.Module):
    """Two convolutions, each normalised and rectified, with an optional shortcut around both.

    `[N, channels, L]` -> `[N, features, ceil(L / stride)]`. Where the shapes differ the shortcut is
    a normalised 1-wide convolution (He et al., 1512.03385, option B).
    """

    def __init__(
        self, channels: int, features: int, stride: int, shortcut: bool, bias: bool
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, features, 3, stride, padding=1, bias=bias),
            nn.BatchNorm1d(features),
            nn.ReLU(),
            nn.Conv1d(features, features, 3, padding=1, bias=bias),
            nn.BatchNorm1d(features),
        )
        self.shortcut = _shortcut(channels, features, stride) if shortcut else None

    def forward(self, maps: Tensor) -> Tensor:
        """Add what the shortcut carries before the last rectification."""
        out: Tensor = self.body(maps)
        return torch.relu(out if self.shortcut is None else out + self.shortcut(maps))


def _shortcut(channels: int, features: int, stride: int) -> nn.Module:
    if channels == features and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv1d(channels, features, 1, stride, bias=False), nn.BatchNorm1d(features)
    )


def _pooling(halving: Halving, left: int) -> list[nn.Module]:
    poolings: dict[Halving, list[nn.Module]] = {
        "convolution": [],
        "k_max": [KMaxPool1d(left)],
        "max": [nn.MaxPool1d(3, 2, padding=1)],
    }
    return poolings[halving]


def _classifier(features: int, hidden: int, labels: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        Logits(hidden, labels),
    )
