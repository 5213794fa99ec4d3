"""A sequence in pairs of positions, time first: the form in which windows of two are exported.

A pair is `([L/2, N, C], [L/2, N, C])`, the even positions and the odd ones. A window of two then
costs three products of matrices for two positions instead of four (Winograd's F(2,2); Lavin & Gray,
*Fast Algorithms for Convolutional Neural Networks*, 1509.09308), and the recurrence takes half as
many steps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from convserve_models.layers.recurrence import time_first

Pair = tuple[Tensor, Tensor]


def paired(maps: Tensor) -> Pair:
    """`[N, C, L]` -> its pairs; behind an odd length stands one position of zeros."""
    times = maps.permute(2, 0, 1)
    whole = F.pad(times, (0, 0, 0, 0, 0, times.shape[0] % 2))
    even, odd = whole.view(-1, 2, *whole.shape[1:]).unbind(1)
    return even, odd


def joined(pair: Pair, length: int) -> Tensor:
    """Pairs -> `[N, C, length]`."""
    return torch.stack(pair, 1).flatten(0, 1)[:length].permute(1, 2, 0)


def convolved(pair: Pair, weight: Tensor, bias: Tensor) -> Pair:
    """Convolve with `weight [features, C, 2]`, zeros before the first position."""
    even, odd = pair
    before, now = weight.permute(2, 1, 0)
    both = even @ (before + now) + bias
    return both + (_next(odd) - even) @ before, both + (odd - even) @ now


def recurrence(kept: Pair, added: Pair) -> Pair:
    """The states c[t] = kept[t]·c[t-1] + added[t], of which only the odd ones are scanned."""
    odd = time_first(kept[0] * kept[1], kept[1] * added[0] + added[1])
    return kept[0] * _next(odd) + added[0], odd


def _next(odd: Tensor) -> Tensor:
    """What each pair finds at the odd position before it."""
    return F.pad(odd[:-1], (0, 0, 0, 0, 1, 0))
