"""EfficientNet-Lite: Tan & Le, *EfficientNet*, arXiv 1905.11946, in the form for small devices.

Inverted residuals found by architecture search; the Lite form (Google, 2020) has ReLU6 in place of
swish, no squeeze-and-excitation, and a stem and a head of fixed size. The form of 224×224 pictures
and 1,000 labels, Lite0, has 4,652,008 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convserve_models.layers.convolution import SameConv2d

# (kernel, stride, expansion, features) of each stage, from table 1 of the paper.
STAGES = [
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (5, 2, 6, 40),
    (3, 2, 6, 80),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (3, 1, 6, 320),
]
STEM, HEAD = 32, 1280


class EfficientNetLite(nn.Module):
    """Logits `[N, labels]` of float images `[N, 3, H, W]`, H and W multiples of 32."""

    paper = "https://arxiv.org/abs/1905.11946"
    fully_convolutional = False
    variable_length = False
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 1000}
    paper_parameters = 4_652_008
    tiny: ClassVar[dict[str, Any]] = {
        "labels": 10,
        "width": 0.25,
        "repeats": (1, 1, 1, 1, 1, 1, 1),
    }

    def __init__(
        self,
        labels: int,
        width: float = 1.0,
        repeats: Sequence[int] = (1, 2, 2, 3, 3, 4, 1),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels, head = round(STEM * width), round(HEAD * width)
        self.stem = _convolution(3, channels, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        for (kernel, stride, expansion, features), times in zip(STAGES, repeats, strict=True):
            out = round(features * width)
            for place in range(times):
                first = stride if place == 0 else 1
                blocks.append(InvertedResidual(channels, out, kernel, first, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(channels, head, kernel=1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.classifier = nn.Linear(head, labels)

    @staticmethod
    def example(n: int, **_: Any) -> Tensor:
        """Random normalised images of the smallest size."""
        return torch.randn(n, 3, 64, 64)

    def features(self, images: Tensor) -> Tensor:
        """What the classifier sees, `[N, 1280 * width]`."""
        seen: Tensor = self.pool(self.head(self.blocks(self.stem(images))))
        return seen

    def forward(self, images: Tensor) -> Tensor:
        """Score the features."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; added to the input where the shapes agree."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        widen = [_convolution(channels, wide, kernel=1)] if expansion > 1 else []
        filtered = _convolution(wide, wide, kernel, stride, groups=wide)
        narrow = _convolution(wide, out, kernel=1)[:-1]
        self.narrowed = nn.Sequential(*widen, filtered, narrow)
        self.shortcut = stride == 1 and channels == out

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` -> `[N, out, H / stride, W / stride]`."""
        narrowed: Tensor = self.narrowed(images)
        return narrowed + images if self.shortcut else narrowed


def _convolution(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, normalisation, ReLU6."""
    return nn.Sequential(
        SameConv2d(channels, out, kernel, stride, groups),
        nn.BatchNorm2d(out, eps=1e-3, momentum=0.01),
        nn.ReLU6(),
    )
