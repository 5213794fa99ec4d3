"""Deep Roots: Ioannou et al., arXiv 1605.06489, table 2: Network in Network with root modules.

A root module is a convolution in filter groups, fewer the deeper it lies; the 1×1 convolutions
that follow are never grouped and mix what the groups see apart. `groups` are those of conv2a and
conv3a: (1, 1) is Network in Network (Lin et al., 1312.4400), (k, k/2) is root-k. With batch
normalisation folded the parameters are the paper's: 966,986 without groups, 314,954 for root-8.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convserve_models.layers.convolution import convolution


class DeepRoots(nn.Module):
    """Logits `[N, labels]` of float images `[N, 3, H, W]`, H and W at least 4."""

    paper = "https://arxiv.org/abs/1605.06489"
    fully_convolutional = True
    variable_length = False
    paper_arguments: ClassVar[dict[str, Any]] = {
        "labels": 10,
        "groups": (8, 4),
        "batch_norm": False,
    }
    paper_parameters = 314_954
    tiny: ClassVar[dict[str, Any]] = {"labels": 10, "width": 1 / 12, "groups": (4, 2)}

    def __init__(
        self,
        labels: int,
        width: float = 1.0,
        groups: tuple[int, int] = (1, 1),
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        narrow, middle, wide = round(96 * width), round(160 * width), round(192 * width)
        norm, (second, third) = batch_norm, groups
        self.features = nn.Sequential(
            *convolution(3, wide, 5, batch_norm=norm),
            *convolution(wide, middle, 1, batch_norm=norm),
            *convolution(middle, narrow, 1, batch_norm=norm),
            nn.MaxPool2d(3, 2, padding=1),
            *convolution(narrow, wide, 5, groups=second, batch_norm=norm),
            *convolution(wide, wide, 1, batch_norm=norm),
            *convolution(wide, wide, 1, batch_norm=norm),
            nn.AvgPool2d(3, 2, padding=1),
            *convolution(wide, wide, 3, groups=third, batch_norm=norm),
            *convolution(wide, wide, 1, batch_norm=norm),
        )
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
