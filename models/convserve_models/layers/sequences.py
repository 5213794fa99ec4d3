"""Sequences of unequal length in one tensor.

NaN stands after a sequence's end. Every layer zeroes the positions behind it, which is what a
convolution's own padding holds: what a network says of a sequence is then the same whatever the
padding and the neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

SILENCE = 1e-5
"""A deviation that counts as none: 100 dB below full scale."""


def ended(sequences: Tensor) -> tuple[Tensor, Tensor]:
    """`float [N, T]` -> the same with zeros for NaN, and the lengths `int64 [N]`."""
    given = ~sequences.isnan()
    return torch.where(given, sequences, torch.zeros_like(sequences)), given.sum(1)


def inside(lengths: Tensor, size: int) -> Tensor:
    """`bool [N, 1, size]`: which positions of a map are before the end."""
    return (torch.arange(size, device=lengths.device) < lengths[:, None])[:, None]


def standardised(maps: Tensor, lengths: Tensor) -> Tensor:
    """Each channel of `[N, C, L]` to zero mean and unit deviation over the positions given."""
    given = inside(lengths, maps.shape[-1]).to(maps.dtype)
    count = lengths.clamp(min=1).to(maps.dtype)[:, None, None]
    centred = (maps - (maps * given).sum(-1, keepdim=True) / count) * given
    deviation = (centred.square().sum(-1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=SILENCE)
