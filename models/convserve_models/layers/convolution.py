"""A convolution with what follows it in most networks."""

from __future__ import annotations

from torch import nn


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
