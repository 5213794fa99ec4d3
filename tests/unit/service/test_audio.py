"""Sound → samples: every encoding, every rate, and what is refused."""

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convserve.artifact import load_artifact
from convserve.errors import InputTooLarge, InvalidArtifact, InvalidInput, UnsupportedMedia
from convserve.manifest import Manifest
from convserve.preprocess.audio import AudioPreprocess, resample
from convserve.preprocess.cepstra import CepstraPreprocess
from convserve.settings import Settings
from convserve_models import reference
from tests.artifacts import AUDIO_STEPS, CEPSTRA_STEPS, build_audio, build_cepstra, edit, npy, wav

RATES = [4000, 8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return load_artifact(build_audio(tmp_path_factory.mktemp("store"))).manifest


@pytest.fixture(scope="module")
def audio(manifest: Manifest) -> AudioPreprocess:
    return AudioPreprocess(manifest, Settings())


@pytest.fixture(scope="module")
def cepstra(tmp_path_factory: pytest.TempPathFactory) -> CepstraPreprocess:
    path = build_cepstra(tmp_path_factory.mktemp("store"))
    return CepstraPreprocess(load_artifact(path).manifest, Settings())


def read(audio: AudioPreprocess, data: bytes) -> Floats:
    (samples,) = audio.peek(data).finish().inputs.values()
    return np.asarray(samples[~np.isnan(samples)])


def encoded(values: Floats, rate: int = 8000, **how: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, values, rate, **{"format": "WAV", **how})
    return stream.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_by_hand(audio: AudioPreprocess, width: int) -> None:
    """Against bytes written here: unsigned at 8 bits, little-endian two's complement above."""
    bits = 8 * width
    whole = np.array([-(2 ** (bits - 1)), -1, 0, 1, 2 ** (bits - 1) - 1])
    raw = (whole + 128 if width == 1 else whole).astype("<i8").view(np.uint8).reshape(-1, 8)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(raw[:, :width].tobytes())
    np.testing.assert_allclose(
        read(audio, stream.getvalue()), whole / 2 ** (bits - 1), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize(
    ("kind", "subtype", "error"),
    [
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "FLOAT", 1e-7),
        ("WAV", "DOUBLE", 1e-7),
        ("WAV", "ULAW", 0.03),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
        ("OGG", "VORBIS", 0.35),
    ],
)
def test_encodings(audio: AudioPreprocess, kind: str, subtype: str, error: float) -> None:
    places = np.arange(4000) / 8000
    values = (0.8 * np.sin(2 * np.pi * 440 * places)).astype(np.float32)
    found = read(audio, encoded(values, format=kind, subtype=subtype))
    assert len(found) == len(values)
    assert np.abs(found - values).max() <= error


def test_channels_are_averaged_and_floats_cut(audio: AudioPreprocess) -> None:
    values = np.array([[0.5, -0.1], [3.0, 1.0], [-9.0, 0.0], [1.0, 0.0]], np.float32)
    found = read(audio, encoded(values, subtype="FLOAT"))
    np.testing.assert_allclose(found, [0.2, 1.0, -1.0, 0.5], atol=1e-7)


def test_nan_stands_behind_the_end_and_the_length_is_told(audio: AudioPreprocess) -> None:
    prepared = audio.peek(wav(0.15)).finish()
    (samples,) = prepared.inputs.values()
    assert samples.shape == (1600,)
    assert np.isnan(samples).tolist() == [False] * 1200 + [True] * 400
    assert prepared.facts == {"seconds": 0.15}


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_pitch_at_every_rate(audio: AudioPreprocess, rate: int) -> None:
    values = np.sin(2 * np.pi * 700 * np.arange(rate // 2) / rate).astype(np.float32)
    found = read(audio, encoded(values, rate, subtype="FLOAT"))
    assert len(found) == 4000
    expected = np.sin(2 * np.pi * 700 * np.arange(4000) / 8000)
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=2e-3)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_what_the_new_rate_cannot_hold_is_gone(rate: int) -> None:
    for pitch in (4200, 5000, 7000):
        values = np.sin(2 * np.pi * pitch * np.arange(rate) / rate).astype(np.float32)
        assert np.abs(resample(values, rate, 8000)[200:-200]).max() < 1e-2


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    rate=st.sampled_from(RATES) | st.integers(160, 7680).map(lambda n: n * 25),
    length=st.integers(1, 3000),
    to=st.sampled_from([8000, 16_000, 44_100]),
)
def test_resampling_agrees_with_the_training_side(rate: int, length: int, to: int) -> None:
    values = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    expected = values if rate == to else reference._resampled(values.astype(np.float64), rate, to)
    found = resample(values, rate, to)
    assert len(found) == -(-length * to // rate)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    seconds=st.floats(0.001, 1.2),
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 3),
    how=st.sampled_from(
        [("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16")]
    ),
)
def test_the_two_readings_of_the_words_agree(
    audio: AudioPreprocess, seconds: float, rate: int, channels: int, how: tuple[str, str]
) -> None:
    data = wav(seconds, rate, channels, *how)
    (found,) = audio.peek(data).finish().inputs.values()
    np.testing.assert_allclose(found, reference.audio(data, AUDIO_STEPS), atol=1e-5)


def chunks(data: bytes) -> int:
    return data.index(b"data")


@pytest.mark.parametrize("keep", [10, 30, 44, 200, 1000])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_truncated(audio: AudioPreprocess, kind: str, keep: int) -> None:
    data = wav(0.5, kind=kind)
    with pytest.raises(InvalidInput, match=r"truncated|decoded"):
        audio.peek(data[:keep]).finish()


def test_a_stream_that_did_not_know_its_length_is_read(audio: AudioPreprocess) -> None:
    data = bytearray(wav(0.1))
    whole = read(audio, bytes(data))
    place = chunks(bytes(data))
    for unknown in (b"\xff\xff\xff\xff",):
        data[4:8] = unknown
        data[place + 4 : place + 8] = unknown
        np.testing.assert_array_equal(read(audio, bytes(data)), whole)


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (b"", InvalidInput, "no bytes"),
        (b"nothing of the kind", UnsupportedMedia, "no WAV, FLAC or OGG"),
        (b"RIFF", InvalidInput, "decoded"),
        (b"fLaC" + bytes(60), InvalidInput, "decoded"),
        (wav(0.0), InvalidInput, "no samples"),
        (wav(0.1, kind="AIFF"), UnsupportedMedia, "AIFF"),
        (wav(0.1, rate=8001), InvalidInput, "multiples of 25"),
        (wav(0.1, rate=384_000), InvalidInput, "192,000"),
        (wav(0.1, channels=9), InvalidInput, "9 channels"),
        (wav(31), InputTooLarge, r"31\.0 s; this model takes at most 30 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals(audio: AudioPreprocess, data: bytes, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        audio.peek(data).finish()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers(audio: AudioPreprocess, bad: float) -> None:
    data = encoded(np.array([0.1, bad, 0.2], np.float32), subtype="FLOAT")
    with pytest.raises(InvalidInput, match="not numbers"):
        audio.peek(data).finish()


def test_long_sound_is_refused_before_it_is_decoded(audio: AudioPreprocess) -> None:
    with pytest.raises(InputTooLarge):
        audio.peek(wav(40))  # no finish
    large = audio.peek(wav(20))
    assert large.large
    assert large.unpacked >= 20 * 8000 * 4


@hypothesis_settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300), beginning=st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS"]))
def test_garbage_is_the_callers_fault(
    audio: AudioPreprocess, data: bytes, beginning: bytes
) -> None:
    with pytest.raises((InvalidInput, UnsupportedMedia, InputTooLarge)):
        audio.peek(beginning + data).finish()


# What the filter can make of samples in [-1, 1] at worst, half way between two of them: the sum of
# its taps' magnitudes.
CROSSINGS = np.arange(-23.5, 24)
LOUDEST = np.abs(0.95 * np.sinc(0.95 * CROSSINGS) * np.i0(8 * np.sqrt(1 - (CROSSINGS / 24) ** 2)))
LOUDEST = LOUDEST.sum() / np.i0(8) + 0.01


@hypothesis_settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 200), value=st.integers(0, 255), kind=st.sampled_from(["WAV", "FLAC"]))
def test_a_changed_byte_never_breaks_it(
    audio: AudioPreprocess, place: int, value: int, kind: str
) -> None:
    data = bytearray(wav(0.05, kind=kind))
    data[place] = value
    try:
        prepared = audio.peek(bytes(data)).finish()
    except (InvalidInput, UnsupportedMedia, InputTooLarge):
        return
    (samples,) = prepared.inputs.values()
    assert np.abs(samples[~np.isnan(samples)]).max(initial=0) <= LOUDEST


def test_steps_of_another_order_are_an_invalid_artifact(tmp_path: Path) -> None:
    path = build_audio(tmp_path)
    edit(path, lambda card: card["preprocess"]["steps"].pop())
    with pytest.raises(InvalidArtifact, match="pcm, resample and pad"):
        AudioPreprocess(load_artifact(path).manifest, Settings())
    path = build_cepstra(tmp_path)
    edit(path, lambda card: card["preprocess"]["steps"].pop())
    with pytest.raises(InvalidArtifact, match="frames and pad"):
        CepstraPreprocess(load_artifact(path).manifest, Settings())


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
def test_cepstra(cepstra: CepstraPreprocess, kind: str) -> None:
    values = np.random.default_rng(0).standard_normal((12, 3)).astype(kind)
    data = npy(values)
    (found,) = cepstra.peek(data).finish().inputs.values()
    assert found.shape == (20, 3)
    np.testing.assert_array_equal(found, reference.cepstra(data, CEPSTRA_STEPS))
    np.testing.assert_array_equal(found[:12], values.astype(np.float32))


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (b"", UnsupportedMedia, "no NumPy file"),
        (npy(np.zeros((4, 3)))[:40], InvalidInput, "header"),
        (npy(np.zeros((4, 3)))[:-1], InvalidInput, "more or less"),
        (npy(np.zeros((4, 3))) + b"x", InvalidInput, "more or less"),
        (npy(np.asfortranarray(np.zeros((4, 3)))), InvalidInput, "columns"),
        (npy(np.zeros((4, 2))), InvalidInput, r"\[length, 3\]"),
        (npy(np.zeros((0, 3))), InvalidInput, "not empty"),
        (npy(np.zeros((4, 3), int)), InvalidInput, "int64"),
        (npy(np.zeros((4, 3), ">f4")), InvalidInput, "little-endian"),
        (npy(np.full((4, 3), np.nan)), InvalidInput, "no numbers"),
        (npy(np.full((4, 3), 1e30)), InvalidInput, "no numbers"),
        (npy(np.zeros((201, 3))), InputTooLarge, "201 frames"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"{'descr'", InvalidInput, "header"),
    ],
)
def test_refused_cepstra(
    cepstra: CepstraPreprocess, data: bytes, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        cepstra.peek(data).finish()


@hypothesis_settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 127), value=st.integers(0, 255))
def test_a_changed_byte_of_the_header_never_breaks_cepstra(
    cepstra: CepstraPreprocess, place: int, value: int
) -> None:
    data = bytearray(npy(np.ones((4, 3))))
    data[place] = value
    try:
        cepstra.peek(bytes(data)).finish()
    except (InvalidInput, UnsupportedMedia, InputTooLarge):
        return
