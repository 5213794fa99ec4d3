"""All-CNN and its ablation: Springenberg et al., *Striving for Simplicity*, arXiv 1412.6806.

Three base networks (A, B, C: table 1), each with its pooling in four forms (table 2): max-pooling
(`pool`), none but a stride in the convolution before (`stride`, Strided-CNN), one convolution more
before the pooling (`conv_pool`, ConvPool-CNN), or a convolution of stride 2 instead of the pooling
(`conv`, All-CNN). The head is 1×1 convolutions and an average over positions. All-CNN-C
(`batch_norm=False`, 10 labels) has 1,369,738 parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from convserve_models.layers.convolution import convolution

Base = Literal["A", "B", "C"]
Pooling = Literal["pool", "stride", "conv_pool", "conv"]
KERNELS: dict[str, tuple[int, ...]] = {"A": (5,), "B": (5, 1), "C": (3, 3)}
"""Of the convolutions before each of the two poolings."""


class AllCNN(nn.Module):
    """Logits `[N, labels]` of float images `[N, 3, H, W]`, H and W at least 12."""

    paper = "https://arxiv.org/abs/1412.6806"
    fully_convolutional = True
    variable_length = False
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 10}
    paper_parameters = 1_369_738
    tiny: ClassVar[dict[str, Any]] = {"labels": 10, "width": 0.125, "batch_norm": True}

    def __init__(
        self,
        labels: int,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout: tuple[float, float] = (0.2, 0.5),
        base: Base = "C",
        pooling: Pooling = "conv",
    ) -> None:
        super().__init__()
        narrow, wide = round(96 * width), round(192 * width)
        layers: list[nn.Module] = [nn.Dropout(dropout[0])]
        for channels, features in ((3, narrow), (narrow, wide)):
            layers += _stage(channels, features, KERNELS[base], pooling, batch_norm)
            layers += [nn.Dropout(dropout[1])]
        # The last 3×3 runs without padding: 8×8 -> 6×6.
        layers += convolution(wide, wide, 3, padding=0, batch_norm=batch_norm)
        layers += convolution(wide, wide, 1, batch_norm=batch_norm)
        self.features = nn.Sequential(*layers)
        classes = convolution(wide, labels, 1, batch_norm=False)[0]
        self.classifier = nn.Sequential(classes, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    @staticmethod
    def example(n: int, **_: Any) -> Tensor:
        """Random normalised images of CIFAR-10's size."""
        return torch.randn(n, 3, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        """Average the class maps over all positions."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def _stage(
    channels: int, features: int, kernels: tuple[int, ...], pooling: Pooling, batch_norm: bool
) -> Iterator[nn.Module]:
    """Convolutions, then half the size by one of the four ways."""
    last = len(kernels) - 1
    for index, kernel in enumerate(kernels):
        stride = 2 if pooling == "stride" and index == last else 1
        yield from convolution(channels, features, kernel, stride=stride, batch_norm=batch_norm)
        channels = features
    if pooling in ("conv", "conv_pool"):
        stride = 2 if pooling == "conv" else 1
        yield from convolution(features, features, 3, stride=stride, batch_norm=batch_norm)
    if pooling in ("pool", "conv_pool"):
        yield nn.MaxPool2d(3, 2, padding=1)
