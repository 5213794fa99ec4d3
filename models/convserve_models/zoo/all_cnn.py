"""All-CNN-C: Springenberg et al., *Striving for Simplicity*, arXiv 1412.6806, table 1 and §3.

Pooling is replaced by convolutions of stride 2, the fully connected head by 1×1 convolutions and
an average over positions. The paper's form (`width=1, batch_norm=False`, 10 labels) has 1,369,738
parameters.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# (features, kernel, stride, padding); the last 3×3 runs without padding: 8×8 -> 6×6.
LAYERS = [
    (96, 3, 1, 1),
    (96, 3, 1, 1),
    (96, 3, 2, 1),
    (192, 3, 1, 1),
    (192, 3, 1, 1),
    (192, 3, 2, 1),
    (192, 3, 1, 0),
    (192, 1, 1, 0),
]
AFTER_STRIDE = (2, 5)


class AllCNN(nn.Module):
    """Logits `[N, labels]` of float images `[N, 3, H, W]`, H and W at least 12."""

    paper = "https://arxiv.org/abs/1412.6806"
    fully_convolutional = True
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 10}
    paper_parameters = 1_369_738
    tiny: ClassVar[dict[str, Any]] = {"labels": 10, "width": 0.125, "batch_norm": True}

    def __init__(
        self,
        labels: int,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout: tuple[float, float] = (0.2, 0.5),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Dropout(dropout[0])]
        channels = 3
        for index, (features, kernel, stride, padding) in enumerate(LAYERS):
            out = round(features * width)
            layers += [nn.Conv2d(channels, out, kernel, stride, padding, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(out)] if batch_norm else []
            layers += [nn.ReLU()]
            layers += [nn.Dropout(dropout[1])] if index in AFTER_STRIDE else []
            channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Conv2d(channels, labels, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.apply(_initialise)

    @staticmethod
    def example(n: int, **_: Any) -> Tensor:
        """Random normalised images of CIFAR-10's size."""
        return torch.randn(n, 3, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        """Average the class maps over all positions."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
