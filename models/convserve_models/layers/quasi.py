"""Quasi-recurrent layers: Bradbury, Merity, Xiong & Socher, arXiv 1611.01576.

Convolutions over the words make candidates and gates for all positions at once; what is left for
the recurrence is a weighted sum, one number per feature (`layers.recurrence`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convserve_models.layers.recurrence import recurrence

Pooling = Literal["f", "fo", "ifo"]


class QuasiRecurrent(nn.Module):
    """`[N, channels, L]` and a mask `[N, 1, L]` -> `[N, features, L]`, zero where the mask is.

    A position sees itself and the `window` - 1 before it. Masked positions leave the state as it
    is, wherever they stand. `zoneout` is the probability that a feature keeps its state; in
    evaluation the forget gate has its expected value.
    """

    def __init__(
        self, channels: int, features: int, window: int, pooling: Pooling, zoneout: float = 0.0
    ) -> None:
        super().__init__()
        self.gates = nn.Conv1d(channels, features * (1 + len(pooling)), window)
        self.pooling, self.zoneout = pooling, zoneout
        nn.init.xavier_uniform_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)  # type: ignore[arg-type]

    def forward(self, columns: Tensor, mask: Tensor) -> Tensor:
        """Convolve into a candidate and gates, then pool along the positions."""
        past = self.gates.kernel_size[0] - 1
        # Gates near one need more digits than bfloat16 has.
        parts = self.gates(F.pad(columns, (past, 0))).float().chunk(1 + len(self.pooling), 1)
        candidate = torch.tanh(parts[0])
        gate = dict(zip(self.pooling, map(torch.sigmoid, parts[1:]), strict=True))
        kept = self._zoned(gate["f"])
        admitted = gate.get("i", 1 - kept)
        state = recurrence(kept * mask + (1 - mask), admitted * candidate * mask)
        return gate["o"] * state * mask if "o" in gate else state * mask

    def _zoned(self, forget: Tensor) -> Tensor:
        # Krueger et al., 1606.01305, by the paper's rule F = 1 - dropout(1 - F) without rescaling.
        if self.training and self.zoneout:
            return 1 - (1 - forget) * (torch.rand_like(forget) >= self.zoneout)
        return 1 - (1 - forget) * (1 - self.zoneout)


class QuasiRecurrentStack(nn.Module):
    """Layers of equal width; `dense`: each one reads what all before it read and wrote.

    `[N, channels, L]` -> `[N, outputs, L]`: the last layer's features, or, densely connected, all
    features of all layers.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        layers: int,
        window: int,
        pooling: Pooling,
        *,
        dense: bool,
        zoneout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dense, self.dropout, self.read = dense, dropout, channels
        self.outputs = features * layers if dense else features
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(QuasiRecurrent(channels, features, window, pooling, zoneout))
            channels = channels + features if dense else features

    def forward(self, columns: Tensor, mask: Tensor) -> Tensor:
        """Run the layers from first to last."""
        for layer in self.layers:
            written = layer(self._dropped(columns), mask)
            columns = torch.cat([columns, written], 1) if self.dense else written
        return columns[:, self.read :] if self.dense else columns

    def _dropped(self, columns: Tensor) -> Tensor:
        # A feature is dropped at all positions or at none (Gal & Ghahramani, 1512.05287).
        return F.dropout1d(columns, self.dropout, self.training)
