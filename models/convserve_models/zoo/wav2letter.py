"""Wav2Letter: Collobert, Puhrsch & Synnaeve, *Wav2Letter*, arXiv 1609.03193v2, figure 1.

A stack of one-dimensional convolutions from sound to letters, twelve of them over the raw wave:
stride 160, then 2, so that an output stands for 20 ms and sees 31,130 samples at 16 kHz. Over
cepstra the first one is left out. With 40 letters the paper's form has 26,211,290 parameters over
the wave and 23,616,540 over cepstra. Trained with CTC (Graves et al., 2006), whose blank is letter
0, or with the paper's own criterion (`transitions`, tasks.asg), whose silence is letter 1, a space.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from convserve_models.layers.sequences import inside
from convserve_models.layers.sound import COEFFICIENTS, FEATURES, Cepstra, Frames, Waves

# Kernel, stride and padding: the layers of the paper's 250 features, then those of its 2,000.
NARROW = [(48, 2, 23)] + 7 * [(7, 1, 3)]
WIDE = [(32, 1, 16), (1, 1, 0)]
BLANK, SPACE = 0, 1
NEVER = -1e4
"""Of letters behind the end, a logit that leaves all probability to the blank or the space."""

Front = Literal["waves", "cepstra", "frames"]
"""What is read: sound by a learned filter bank, sound by mel cepstra, or cepstra made elsewhere."""


class Wav2Letter(nn.Module):
    """Logits `[N, labels, L]` of sound `float32 [N, T]`, or of cepstra `[N, T, 13]`.

    NaN stands behind the end of the shorter ones; there the blank is certain. `window` and `hop`
    are in samples of `rate` per second. L is T // hop // 2 + 1; T must be 2 hop or more. With
    `transitions` it gives scores `[N, labels, labels, L]` of each letter after each other.
    """

    paper = "https://arxiv.org/abs/1609.03193"
    fully_convolutional = False  # its loudness is that of the whole sound
    variable_length = True
    paper_arguments: ClassVar[dict[str, Any]] = {"labels": 40}
    paper_parameters = 26_211_290
    tiny: ClassVar[dict[str, Any]] = {
        "labels": 5, "window": 20, "hop": 8, "features": 12, "context": 16, "batch_norm": True,
    }  # fmt: skip

    def __init__(
        self,
        labels: int,
        front: Front = "waves",
        rate: int = 16_000,
        window: int = 250,
        hop: int = 160,
        features: int = 250,
        context: int = 2000,
        batch_norm: bool = False,
        dropout: float = 0.0,
        transitions: bool = False,
    ) -> None:
        super().__init__()
        self.seconds = NARROW[0][1] * hop / rate
        """Between two positions of the output."""
        self.front = _front(front, rate, window, hop, features)
        channels = features if front == "waves" else FEATURES
        self.body = nn.ModuleList()
        table = [(features, *row) for row in NARROW] + [(context, *row) for row in WIDE]
        for out, kernel, stride, padding in table:
            conv = nn.Conv1d(channels, out, kernel, stride, padding, bias=not batch_norm)
            self.body.append(Layer(conv, batch_norm, dropout))
            channels = out
        self.letters = nn.Conv1d(channels, labels, 1)
        silence = torch.full((labels, 1), NEVER)
        silence[SPACE if transitions else BLANK] = 0.0
        self.register_buffer("silence", silence, persistent=False)
        self.transitions = nn.Parameter(torch.zeros(labels, labels)) if transitions else None
        self.apply(_initialise)

    @staticmethod
    def example(n: int, front: Front = "waves", hop: int = 160, **_: Any) -> Tensor:
        """Noise for 50 positions of the output."""
        shape = (n, 100, COEFFICIENTS) if front == "frames" else (n, 100 * hop)
        return torch.randn(shape)

    def forward(self, sound: Tensor) -> Tensor:
        """Read the sound as feature maps, and say which letter each position is part of."""
        maps, lengths = self.front(sound)
        for layer in self.body:
            maps, lengths = layer(maps, lengths)
        logits: Tensor = self.letters(maps)
        given = inside(lengths, logits.shape[-1])
        logits = torch.where(given, logits, self.get_buffer("silence").to(logits.dtype))
        if self.transitions is None:
            return logits
        return logits[:, None] + self.transitions[:, :, None]


class Layer(nn.Module):
    """A convolution, rectified; positions behind the end stay zero."""

    def __init__(self, conv: nn.Conv1d, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.conv = conv
        self.stride = conv.stride[0]
        self.extra = 2 * int(conv.padding[0]) - conv.kernel_size[0]
        self.rest = nn.Sequential(
            nn.BatchNorm1d(conv.out_channels) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
        )

    def forward(self, maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `[N, C, L]` and how many of the L positions are given -> the same, one layer on."""
        lengths = lengths + self.extra
        lengths = (lengths if self.stride == 1 else lengths // self.stride) + 1
        out = self.rest(self.conv(maps))
        return out * inside(lengths, out.shape[-1]).to(out.dtype), lengths


def _front(front: Front, rate: int, window: int, hop: int, features: int) -> nn.Module:
    if front == "waves":
        return Waves(features, window, hop)
    return Cepstra(rate, window, hop) if front == "cepstra" else Frames()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
