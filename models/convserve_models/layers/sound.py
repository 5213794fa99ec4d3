"""The first layers of speech networks: sound, or cepstra made elsewhere, to feature maps.

Each takes sequences with NaN behind the end (layers.sequences) and gives maps `[N, C, L]` and how
many of the L positions each sequence has, `int64 [N]`. They are in the graph: neither a client nor
a server repeats their numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convserve_models.layers.sequences import ended, inside, standardised

COEFFICIENTS = 13
FEATURES = 3 * COEFFICIENTS  # with slopes, and slopes of slopes
# The slope of a line through five frames (Furui, 1986).
SLOPE = (-0.2, -0.1, 0.0, 0.1, 0.2)


class Waves(nn.Module):
    """`float32 [N, T]` samples -> `[N, features, T // hop]` by a learned filter bank."""

    def __init__(self, features: int, window: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.filters = nn.Conv1d(1, features, window, hop, padding=(window - hop) // 2)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Bring the sound to one loudness, then filter it."""
        wave, lengths = ended(samples)
        frames = lengths // self.hop
        maps = self.filters(standardised(wave[:, None], lengths))
        return maps * inside(frames, maps.shape[-1]).to(maps.dtype), frames


class Cepstra(nn.Module):
    """`float32 [N, T]` samples -> `[N, 39, T // hop]`: 13 mel cepstra, their slopes, and theirs.

    A Hann window, the power spectrum, 26 triangular mel filters, logarithm, DCT-II (Davis &
    Mermelstein, 1980); the short Fourier transform is a convolution with cosines and sines.
    """

    def __init__(self, rate: int, window: int, hop: int, filters: int = 26) -> None:
        super().__init__()
        self.hop = hop
        self.slopes = Slopes()
        bins = 2 ** (window - 1).bit_length() // 2 + 1
        self.register_buffer("fourier", _fourier(window, bins), persistent=False)
        self.register_buffer("mel", _mel(filters, bins, rate), persistent=False)
        self.register_buffer("cosine", _cosine(COEFFICIENTS, filters), persistent=False)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Measure each frame, then how it changes."""
        with torch.autocast(samples.device.type, enabled=False):
            wave, lengths = ended(samples)
            frames = lengths // self.hop
            return self.slopes(self._cepstra(standardised(wave[:, None], lengths)), frames), frames

    def _cepstra(self, wave: Tensor) -> Tensor:
        fourier, mel, cosine = map(self.get_buffer, ("fourier", "mel", "cosine"))
        padding = (fourier.shape[-1] - self.hop) // 2
        parts = F.conv1d(wave, fourier, stride=self.hop, padding=padding)
        real, imaginary = parts.chunk(2, dim=1)
        power = real.square() + imaginary.square()
        # The floor, 60 dB below an average sound, hides what quantisation leaves of silence.
        return torch.matmul(cosine, (torch.matmul(mel, power) + 1e-6).log())


class Frames(nn.Module):
    """`float32 [N, L, 13]` cepstra made elsewhere -> `[N, 39, L]` with their slopes."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes = Slopes()

    def forward(self, cepstra: Tensor) -> tuple[Tensor, Tensor]:
        """Put coefficients before positions."""
        with torch.autocast(cepstra.device.type, enabled=False):
            maps, coefficients = ended(cepstra.flatten(1))
            frames = coefficients // COEFFICIENTS
            maps = maps.reshape(maps.shape[0], -1, COEFFICIENTS).transpose(1, 2)
            return self.slopes(maps, frames), frames


class Slopes(nn.Module):
    """`[N, C, L]` -> `[N, 3 C, L]`: maps, their slopes and the slopes' slopes, standardised."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("line", torch.tensor(SLOPE)[None, None], persistent=False)

    def forward(self, maps: Tensor, frames: Tensor) -> Tensor:
        """Take slopes of what is standardised, so that both ends are zero on average."""
        parts = [standardised(maps, frames)]
        for _ in range(2):
            parts.append(standardised(self._slope(parts[-1]), frames))
        return torch.cat(parts, dim=1)

    def _slope(self, maps: Tensor) -> Tensor:
        channels = maps.shape[1]
        line = self.get_buffer("line").expand(channels, 1, -1)
        return F.conv1d(maps, line, padding=len(SLOPE) // 2, groups=channels)


def _fourier(window: int, bins: int) -> Tensor:
    """Cosines, then sines, under a Hann window of unit energy: `[2 bins, 1, window]`."""
    hann = torch.hann_window(window, dtype=torch.float64)
    hann = hann / hann.square().sum().sqrt()
    angles = torch.pi * torch.arange(bins)[:, None] * torch.arange(window).double() / (bins - 1)
    return (torch.cat([angles.cos(), angles.sin()]) * hann).float()[:, None]


def _mel(filters: int, bins: int, rate: int) -> Tensor:
    """Triangles of equal width in mel, 2595 log10(1 + f / 700): `[filters, bins]`."""
    highest = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, filters + 2).double() * highest / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, bins).double()
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0).float()


def _cosine(coefficients: int, filters: int) -> Tensor:
    """DCT-II: `[coefficients, filters]`."""
    places = torch.arange(filters).double() + 0.5
    return (torch.pi / filters * torch.arange(coefficients)[:, None] * places).cos().float()
