"""Airbench: Jordan, *94 % on CIFAR-10 in 3.29 Seconds on a Single GPU*, arXiv 2404.00498, §3.1, §5.

A 2×2 convolution, then three stages that pool at once and go on small in space and wide in
features: cheap, because no layer is large in both. `depth=3` is the paper's larger form: one
convolution more per stage and a shortcut around the second and third. Unlike there, the first layer
is learned, not whitening, and batch normalisation learns its scales too and stands before the
pooling, where an export folds it into the convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convserve_models.layers.convolution import convolution

STEM = 24


class Stage(nn.Module):
    """`[N, C, H, W]` -> `[N, features, H/2, W/2]`."""

    def __init__(self, channels: int, features: int, depth: int) -> None:
        super().__init__()
        *first, activation = convolution(channels, features, 3, activation=nn.GELU)
        self.narrowing = nn.Sequential(*first, nn.MaxPool2d(2), activation)
        *rest, self.activation = (
            part
            for _ in range(depth - 1)
            for part in convolution(features, features, 3, activation=nn.GELU)
        )
        self.rest = nn.Sequential(*rest)
        self.has_shortcut = depth > 2

    def forward(self, maps: Tensor) -> Tensor:
        """Pool, then the further convolutions, around which the shortcut goes."""
        narrowed = self.narrowing(maps)
        maps = self.rest(narrowed)
        answer: Tensor = self.activation(maps + narrowed if self.has_shortcut else maps)
        return answer


class Airbench(nn.Module):
    """Logits `[N, labels]` of float images `[N, 3, H, W]`, H and W at least 9."""

    paper = "https://arxiv.org/abs/2404.00498"
    fully_convolutional = False
    variable_length = False
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 10}
    paper_parameters = 1_972_816
    tiny: ClassVar[dict[str, Any]] = {"labels": 10, "widths": (8, 12, 16), "depth": 3}

    def __init__(self, labels: int, widths: Sequence[int] = (64, 256, 256), depth: int = 2) -> None:
        super().__init__()
        channels = [STEM, *widths]
        stem = convolution(3, STEM, 2, padding=0, activation=nn.GELU)
        stages = [Stage(*pair, depth) for pair in zip(channels, widths, strict=False)]
        self.features = nn.Sequential(*stem, *stages)
        self.classifier = nn.Sequential(
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels[-1], labels, bias=False)
        )

    @staticmethod
    def example(n: int, **_: Any) -> Tensor:
        """Random normalised images of CIFAR-10's size."""
        return torch.randn(n, 3, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        """The most active position of each feature decides."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
