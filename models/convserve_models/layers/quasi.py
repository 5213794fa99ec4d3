"""Quasi-recurrent layers: Bradbury, Merity, Xiong & Socher, arXiv 1611.01576.

Convolutions over the words make candidates and gates for all positions at once; what is left for
the recurrence is a weighted sum, one number per feature (`layers.recurrence`). LSTM layers in their
place are there to be compared with.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convserve_models.layers import pairs
from convserve_models.layers.pairs import Pair
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
        kept, added, shown = self._pooled(self.gates(F.pad(columns, (past, 0))), mask, 1)
        return shown * recurrence(kept, added)

    def pairs(self, columns: Pair, masks: Pair) -> Pair:
        """`forward` of pairs of positions, where the window is two."""
        assert self.gates.bias is not None
        gates = pairs.convolved(columns, self.gates.weight, self.gates.bias)
        even, odd = (self._pooled(*each, -1) for each in zip(gates, masks, strict=True))
        states = pairs.recurrence((even[0], odd[0]), (even[1], odd[1]))
        return even[2] * states[0], odd[2] * states[1]

    def _pooled(self, gates: Tensor, mask: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """What is kept of the state at each position, what is added to it, what is shown of it."""
        # Gates near one need more digits than bfloat16 has.
        candidate, *rest = gates.float().chunk(1 + len(self.pooling), axis)
        gate = dict(zip(self.pooling, map(torch.sigmoid, rest), strict=True))
        kept = torch.maximum(self._zoned(gate["f"]), 1 - mask)
        admitted = gate["i"] * mask if "i" in gate else 1 - kept
        return kept, admitted * torch.tanh(candidate), gate["o"] * mask if "o" in gate else mask

    def _zoned(self, forget: Tensor) -> Tensor:
        # Krueger et al., 1606.01305, by the paper's rule F = 1 - dropout(1 - F) without rescaling.
        if self.training and self.zoneout:
            return 1 - (1 - forget) * (torch.rand_like(forget) >= self.zoneout)
        return 1 - (1 - forget) * (1 - self.zoneout) if self.zoneout else forget


class LongShortTerm(nn.Module):
    """An LSTM layer (Hochreiter & Schmidhuber, 1997) with the shapes of `QuasiRecurrent`.

    The mask is read as one more column, whose weights are the biases: masked positions before the
    first word leave the state zero. Forget gates start with a bias of one (Gers et al., 2000).
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.cell = nn.LSTM(channels + 1, features, bias=False)
        with torch.no_grad():
            bias = self.weights()[0][:, -1]
            bias.zero_()[features : 2 * features] = 1.0

    def weights(self) -> tuple[Tensor, Tensor]:
        """Of what is read, `[4 features, channels + 1]`, and of the state."""
        return self.cell.get_parameter("weight_ih_l0"), self.cell.get_parameter("weight_hh_l0")

    def forward(self, columns: Tensor, mask: Tensor) -> Tensor:
        """Read one position after the other."""
        read = torch.cat([columns, mask], 1).permute(2, 0, 1)
        states: Tensor = (
            self._exported(read) if torch.compiler.is_exporting() else self.cell(read)[0]
        )
        return states.permute(1, 2, 0) * mask

    def _exported(self, read: Tensor) -> Tensor:
        """As ONNX's operator, for any length; torch exports one for the example's."""
        length, n, _ = read.shape
        features = self.cell.hidden_size
        states: Tensor = torch.onnx.ops.symbolic(
            "LSTM",
            (read, *map(self._reordered, self.weights())),
            {"hidden_size": features},
            dtype=read.dtype,
            shape=(length, 1, n, features),
        )
        return states[:, 0]

    @staticmethod
    def _reordered(weight: Tensor) -> Tensor:
        """Torch's gates, input, forget, cell, output, in ONNX's order `[1, 4 features, C]`."""
        entry, forget, cell, out = weight.chunk(4)
        return torch.cat([entry, out, forget, cell])[None]


class QuasiRecurrentStack(nn.Module):
    """Layers of equal width; `dense`: each one reads what all before it read and wrote.

    `[N, channels, L]` -> `[N, outputs, L]`: the last layer's features, or, densely connected, all
    features of all layers. With `pooling` "lstm" they are LSTM layers, which have no window and no
    zoneout.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        layers: int,
        window: int,
        pooling: Pooling | Literal["lstm"],
        *,
        dense: bool,
        zoneout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dense, self.dropout, self.read = dense, dropout, channels
        self.in_pairs = window == 2 and pooling != "lstm"
        self.outputs = features * layers if dense else features
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(
                LongShortTerm(channels, features)
                if pooling == "lstm"
                else QuasiRecurrent(channels, features, window, pooling, zoneout)
            )
            channels = channels + features if dense else features

    def forward(self, columns: Tensor, mask: Tensor) -> Tensor:
        """Run the layers from first to last."""
        if torch.compiler.is_exporting() and self.in_pairs:
            return self._exported(columns, mask)
        for layer in self.layers:
            written = layer(self._dropped(columns), mask)
            columns = torch.cat([columns, written], 1) if self.dense else written
        return columns[:, self.read :] if self.dense else columns

    def _exported(self, columns: Tensor, mask: Tensor) -> Tensor:
        """Run the layers on pairs of positions, which is quicker."""
        read, masks = pairs.paired(columns), pairs.paired(mask)
        for layer in self.layers:
            written = cast(QuasiRecurrent, layer).pairs(read, masks)
            read = _beside(read, written) if self.dense else written
        joined = pairs.joined(read, columns.shape[-1])
        return joined[:, self.read :] if self.dense else joined

    def _dropped(self, columns: Tensor) -> Tensor:
        # A feature is dropped at all positions or at none (Gal & Ghahramani, 1512.05287).
        return F.dropout1d(columns, self.dropout, self.training)


def _beside(read: Pair, written: Pair) -> Pair:
    return torch.cat([read[0], written[0]], -1), torch.cat([read[1], written[1]], -1)
