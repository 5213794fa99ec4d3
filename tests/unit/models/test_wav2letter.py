"""Wav2Letter's own exact figures: the paper's counts and fields, the features in the graph."""

from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch

from convserve_models.layers.sound import Cepstra, Frames, Slopes, Waves
from convserve_models.pyramid import pyramid_of
from convserve_models.zoo.wav2letter import Wav2Letter


def test_parameters_without_the_first_layer() -> None:
    model = Wav2Letter(40, front="cepstra")
    assert sum(p.numel() for p in model.parameters()) == 23_616_540


@pytest.mark.parametrize(("window", "field"), [(250, 31_130), (400, 31_280)])
def test_receptive_field_and_stride(window: int, field: int) -> None:
    """The text's 250 taps give 31,130 samples; its 31,280 are those of a window of 25 ms."""
    rows = pyramid_of(Wav2Letter(40, window=window), torch.randn(1, 32_000))
    assert [row.kind for row in rows] == ["convolution"] * 12
    assert (rows[-1].receptive_field, rows[-1].jump) == ((field,), (320.0,))
    assert rows[-1].shape == (40, 32_000 // 320 + 1)


def test_field_is_what_a_position_sees() -> None:
    torch.manual_seed(0)
    form: dict[str, Any] = {"labels": 3, "window": 20, "hop": 8, "features": 4, "context": 4}
    model = Wav2Letter(**form).eval()
    (field,) = pyramid_of(model, torch.randn(1, 4000))[-1].receptive_field
    # The loudness is of the whole sound: only what follows it has a field.
    wave = torch.randn(1, 1, 4000, requires_grad=True)
    assert isinstance(model.front, Waves)
    maps = model.front.filters(wave)
    lengths = torch.tensor([maps.shape[-1]])
    for layer in model.body:
        maps, lengths = layer(maps, lengths)
    model.letters(maps)[0, :, 120].sum().backward()
    assert wave.grad is not None
    seen = wave.grad[0, 0].nonzero().flatten()
    assert seen[-1] - seen[0] + 1 == field


def test_cepstra_are_those_of_scipy() -> None:
    """A short Fourier transform, mel triangles and a DCT-II, made by somebody else."""
    rate, window, hop = 8000, 200, 80
    front = Cepstra(rate, window, hop)
    wave = np.random.default_rng(0).standard_normal(4000)
    wave = ((wave - wave.mean()) / wave.std()).astype(np.float32)
    hann = scipy.signal.get_window("hann", window)
    padded = np.pad(wave, (window - hop) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * hann
    power = np.abs(np.fft.rfft(frames, 256)) ** 2 / np.square(hann).sum()
    mel = front.get_buffer("mel").numpy()
    expected = scipy.fft.dct(np.log(power @ mel.T + 1e-6), type=2)[:, :13].T / 2
    found = front._cepstra(torch.from_numpy(wave)[None, None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_mel_filters_cover_the_band() -> None:
    mel = Cepstra(8000, 200, 80).get_buffer("mel")
    assert (mel >= 0).all()
    assert (mel.sum(1) > 0).all()
    peaks = mel.argmax(1)
    assert (peaks.diff() > 0).all()


def test_slope_of_a_line_is_constant() -> None:
    line = torch.arange(50.0).expand(1, 2, 50)
    slope = Slopes()._slope(line)
    torch.testing.assert_close(slope[..., 2:-2], torch.ones(1, 2, 46))


def test_frames_are_standardised_with_slopes() -> None:
    cepstra = torch.randn(2, 80, 13) * 5 + 3
    cepstra[1, 60:] = torch.nan
    maps, frames = Frames()(cepstra)
    assert maps.shape == (2, 39, 80)
    assert frames.tolist() == [80, 60]
    torch.testing.assert_close(maps[1, :, :60].mean(1), torch.zeros(39), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps[1, :, :60].std(1, correction=0), torch.ones(39))
    assert (maps[1, :, 60:][:13] == 0).all()
