"""GoogLeNet: Szegedy et al., *Going Deeper with Convolutions*, arXiv 1409.4842, table 1.

Nine inception modules: 1×1, 3×3 and 5×5 convolutions and a pooling side by side, the dear ones
behind a 1×1 that narrows their input. The paper's form (1,000 labels, 224×224) has 6,998,552
parameters without its auxiliary heads, which are of training only and no part of the network. The
form for small images has a 3×3 stem and pools twice: 32×32, 16×16, 8×8.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from convserve_models.layers.convolution import convolution


class Widths(NamedTuple):
    """Features of a module's branches; `narrow…` are those of the 1×1 before a convolution."""

    one: int
    narrow_three: int
    three: int
    narrow_five: int
    five: int
    pooled: int


TABLE = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}
POOLED_AFTER = ("3b", "4e")


class Inception(nn.Module):
    """`[N, C, H, W]` -> `[N, one + three + five + pooled, H, W]`."""

    def __init__(self, channels: int, widths: Widths, batch_norm: bool) -> None:
        super().__init__()
        norm = batch_norm
        self.one = nn.Sequential(*convolution(channels, widths.one, 1, batch_norm=norm))
        self.three = nn.Sequential(
            *convolution(channels, widths.narrow_three, 1, batch_norm=norm),
            *convolution(widths.narrow_three, widths.three, 3, batch_norm=norm),
        )
        self.five = nn.Sequential(
            *convolution(channels, widths.narrow_five, 1, batch_norm=norm),
            *convolution(widths.narrow_five, widths.five, 5, batch_norm=norm),
        )
        self.pooled = nn.Sequential(
            nn.MaxPool2d(3, 1, padding=1),
            *convolution(channels, widths.pooled, 1, batch_norm=norm),
        )
        self.channels = widths.one + widths.three + widths.five + widths.pooled

    def forward(self, maps: Tensor) -> Tensor:
        """Run the four branches and put their features side by side."""
        branches = (self.one, self.three, self.five, self.pooled)
        return torch.cat([branch(maps) for branch in branches], dim=1)


class GoogLeNet(nn.Module):
    """Logits `[N, labels]` of float images `[N, 3, H, W]`."""

    paper = "https://arxiv.org/abs/1409.4842"
    fully_convolutional = True
    variable_length = False
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 1000}
    paper_parameters = 6_998_552
    tiny: ClassVar[dict[str, Any]] = {
        "labels": 10,
        "width": 0.0625,
        "small": True,
        "batch_norm": True,
        "dropout": 0.0,
    }

    def __init__(
        self,
        labels: int,
        width: float = 1.0,
        small: bool = False,
        batch_norm: bool = False,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        channels = round(192 * width)
        stem = _small_stem if small else _stem
        self.stem = nn.Sequential(*stem(width, batch_norm))
        self.inception = nn.ModuleDict()
        for name, widths in TABLE.items():
            scaled = Widths(*(round(features * width) for features in widths))
            module = Inception(channels, scaled, batch_norm)
            self.inception[name] = module
            if name in POOLED_AFTER:
                self.inception[f"{name}_pool"] = nn.MaxPool2d(3, 2, padding=1)
            channels = module.channels
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, labels)
        )

    @staticmethod
    def example(n: int, small: bool = False, **_: Any) -> Tensor:
        """Random normalised images, of ImageNet's size or of CIFAR-10's."""
        side = 32 if small else 224
        return torch.randn(n, 3, side, side)

    def forward(self, images: Tensor) -> Tensor:
        """Stem, nine modules, average, linear."""
        maps = self.stem(images)
        for module in self.inception.values():
            maps = module(maps)
        logits: Tensor = self.classifier(maps)
        return logits


def _stem(width: float, batch_norm: bool) -> list[nn.Module]:
    narrow, wide = round(64 * width), round(192 * width)
    return [
        *convolution(3, narrow, 7, stride=2, batch_norm=batch_norm),
        nn.MaxPool2d(3, 2, padding=1),
        nn.LocalResponseNorm(5),
        *convolution(narrow, narrow, 1, batch_norm=batch_norm),
        *convolution(narrow, wide, 3, batch_norm=batch_norm),
        nn.LocalResponseNorm(5),
        nn.MaxPool2d(3, 2, padding=1),
    ]


def _small_stem(width: float, batch_norm: bool) -> list[nn.Module]:
    return convolution(3, round(192 * width), 3, batch_norm=batch_norm)
