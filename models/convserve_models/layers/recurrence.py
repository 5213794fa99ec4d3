"""The recurrence c[t] = f[t]·c[t-1] + x[t], which needs no product of matrices.

Three forms of the same: step by step, by doubling (Blelloch, *Prefix Sums and Their Applications*,
1990), and as one ONNX `Scan`. All take and return `[N, C, L]` and start from c = 0. What is
exported of windows of two words scans pairs of positions (`layers.pairs`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F


def recurrence(kept: Tensor, added: Tensor) -> Tensor:
    """The form that suits: `Scan` where it is exported, on CPUs the loop, elsewhere doubling."""
    if torch.compiler.is_exporting():
        return scanned(kept, added)
    return stepwise(kept, added) if kept.device.type == "cpu" else doubled(kept, added)


def stepwise(kept: Tensor, added: Tensor) -> Tensor:
    """One position after the other, in place: the least work, in L steps."""
    positions = kept.permute(2, 0, 1), added.permute(2, 0, 1)
    states: Tensor = _Loop.apply(*positions)  # type: ignore[no-untyped-call]
    return states.permute(1, 2, 0)


class _Loop(torch.autograd.Function):
    """`stepwise` of `[L, N, C]`; what autograd would keep of each step is two tensors of all."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, added: Tensor) -> Tensor:
        kept, states = kept.contiguous(), added.clone(memory_format=torch.contiguous_format)
        for before, f, state in zip(states, kept[1:], states[1:], strict=False):
            state.addcmul_(f, before)
        ctx.save_for_backward(kept, states)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        kept, states = ctx.saved_tensors
        of_states = gradients[0].clone(memory_format=torch.contiguous_format)
        for t in range(len(kept) - 1, 0, -1):
            of_states[t - 1].addcmul_(kept[t], of_states[t])
        of_kept = torch.zeros_like(kept)
        torch.mul(of_states[1:], states[:-1], out=of_kept[1:])
        return of_kept, of_states


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
