"""Convolutions with what precedes or follows them in most networks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def convolution(
    channels: int,
    features: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    batch_norm: bool = True,
    activation: type[nn.Module] = nn.ReLU,
) -> list[nn.Module]:
    """Convolution, batch normalisation where asked for, activation.

    `padding` is by default that which keeps the size (an odd kernel at stride 1). Behind batch
    normalisation the convolution needs no bias. Weights start as in He et al., 1502.01852.
    """
    half = kernel // 2 if padding is None else padding
    conv = nn.Conv2d(channels, features, kernel, stride, half, groups=groups, bias=not batch_norm)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return [conv, *([nn.BatchNorm2d(features)] if batch_norm else []), activation()]


class SameConv2d(nn.Conv2d):
    """A convolution that pads an even side as TensorFlow's "same" does: more after than before.

    Weights that were trained there see every picture half a stride off otherwise.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)
        self.before = (kernel - stride) // 2
        self.after = kernel - stride - self.before

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` -> `[N, out, H / stride, W / stride]`."""
        return super().forward(F.pad(images, (self.before, self.after) * 2))
