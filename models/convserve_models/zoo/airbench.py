"""Airbench: Jordan, *94 % on CIFAR-10 in 3.29 Seconds on a Single GPU*, arXiv 2404.00498, §3.1, §5.

A 2×2 whitening convolution, then three stages that pool at once and go on small in space and wide
in features: cheap, because no layer is large in both. `depth=3` is the paper's larger form: one
convolution more per stage and a shortcut around the second and third. Convolutions start as the
identity as far as they reach; batch normalisation learns offsets, no scales (which are counted here
but stay 1: 1,152 of 1,972,792 parameters).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convserve_models.layers.whitening import Whitening

SCALE = 1 / 9
"""Of the logits: a head without normalisation learns calmly."""


class Stage(nn.Module):
    """`[N, C, H, W]` -> `[N, features, H/2, W/2]`."""

    def __init__(self, channels: int, features: int, depth: int) -> None:
        super().__init__()
        conv, *rest = _convolution(channels, features)
        self.narrowing = nn.Sequential(conv, nn.MaxPool2d(2), *rest)
        *further, self.activation = (
            part for _ in range(depth - 1) for part in _convolution(features, features)
        )
        self.further = nn.Sequential(*further)
        self.has_shortcut = depth > 2

    def forward(self, maps: Tensor) -> Tensor:
        """Pool, then the further convolutions, around which the shortcut goes."""
        narrowed = self.narrowing(maps)
        maps = self.further(narrowed)
        answer: Tensor = self.activation(maps + narrowed if self.has_shortcut else maps)
        return answer


def _convolution(channels: int, features: int) -> Iterator[nn.Module]:
    conv = nn.Conv2d(channels, features, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:channels])
    norm = nn.BatchNorm2d(features, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad = False
    yield from (conv, norm, nn.GELU())


class Airbench(nn.Module):
    """Logits `[N, labels]` of float images `[N, 3, H, W]`, H and W at least 9."""

    paper = "https://arxiv.org/abs/2404.00498"
    fully_convolutional = False
    variable_length = False
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 10}
    paper_parameters = 1_972_792
    tiny: ClassVar[dict[str, Any]] = {"labels": 10, "widths": (24, 32, 32), "depth": 3}

    def __init__(self, labels: int, widths: Sequence[int] = (64, 256, 256), depth: int = 2) -> None:
        super().__init__()
        whitening = Whitening(3, 2)
        stages, channels = [], whitening.out_channels
        for features in widths:
            stages.append(Stage(channels, features, depth))
            channels = features
        self.features = nn.Sequential(whitening, nn.GELU(), *stages)
        self.classifier = nn.Sequential(
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, labels, bias=False)
        )

    @staticmethod
    def example(n: int, **_: Any) -> Tensor:
        """Random normalised images of CIFAR-10's size."""
        return torch.randn(n, 3, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        """The most active position of each feature decides."""
        logits: Tensor = self.classifier(self.features(images))
        return logits * SCALE
