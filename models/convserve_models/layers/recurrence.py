"""The recurrence c[t] = f[t]·c[t-1] + x[t], which needs no product of matrices.

Three forms of the same: step by step, by doubling (Blelloch, *Prefix Sums and Their Applications*,
1990), and as one ONNX `Scan`. All take and return `[N, C, L]` and start from c = 0. What is
exported of windows of two words scans pairs of positions (`layers.pairs`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F


def recurrence(kept: Tensor, added: Tensor) -> Tensor:
    """The form that suits: by doubling where torch runs it, `Scan` where it is exported."""
    form = scanned if torch.compiler.is_exporting() else doubled
    return form(kept, added)


def stepwise(kept: Tensor, added: Tensor) -> Tensor:
    """One position after the other: the definition."""
    state, states = torch.zeros_like(added[..., 0]), []
    for f, x in zip(kept.unbind(-1), added.unbind(-1), strict=True):
        state = f * state + x
        states.append(state)
    return torch.stack(states, -1)


def doubled(kept: Tensor, added: Tensor) -> Tensor:
    """In log2(L) steps, each of which joins what spans of twice the length do."""
    span = 1
    while span < added.shape[-1]:
        added = added + kept * _later(added, span, 0.0)
        kept = kept * _later(kept, span, 1.0)
        span *= 2
    return added


def scanned(kept: Tensor, added: Tensor) -> Tensor:
    """As torch's scan operator, which exports to one `Scan` of any length."""
    return time_first(kept.permute(2, 0, 1), added.permute(2, 0, 1)).permute(1, 2, 0)


def time_first(kept: Tensor, added: Tensor) -> Tensor:
    """`scanned`, of `[L, N, C]`."""

    def step(state: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        state = at[0] * state + at[1]
        return state, state.clone()

    _, states = scan(step, torch.zeros_like(added[0]), (kept, added))
    return torch.as_tensor(states)


def _later(values: Tensor, span: int, first: float) -> Tensor:
    """Every position's value `span` positions later; `first` before there is one."""
    return F.pad(values[..., :-span], (span, 0), value=first)
