"""Encoded sound → samples, as the steps of the manifest say (kernels: docs/api.md)."""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from io import BytesIO
from math import ceil, gcd

import numpy as np
import soundfile
from numpy.typing import NDArray

from convserve.errors import (
    ConvserveError,
    InputTooLarge,
    InvalidArtifact,
    InvalidInput,
    UnsupportedMedia,
)
from convserve.manifest import Manifest, Pad, Pcm, Resample
from convserve.preprocess.prepared import Pending, Prepared
from convserve.settings import Settings

FORMATS = ("WAV", "WAVEX", "FLAC", "OGG")
BEGINNINGS = (b"RIFF", b"fLaC", b"OggS")
RATES = range(4_000, 192_001, 25)  # all that are in use; others would need huge filters
MAX_CHANNELS = 8
SMALL = 2**13  # samples that are faster decoded than handed to a thread
SAMPLE = 8  # bytes of one, while it is decoded and mixed
RESAMPLED = 32  # bytes of one sample of the result, with the copies on the way there
UNKNOWN = (0, 2**32 - 1)  # sizes in a RIFF header that was written before its data
CROSSINGS, CUTOFF, BETA = 24, 0.95, 8.0
Samples = NDArray[np.float32]


def resample(samples: Samples, rate: int, to: int) -> Samples:
    """Return the samples at another rate: ceil(n · to / rate) of them.

    The filter's taps that meet a given sample of the result are the same every `up` samples: one
    matrix product for each of those phases.
    """
    up, down = to // gcd(rate, to), rate // gcd(rate, to)
    if up == down:
        return samples
    taps = _filter(up, down)
    half = len(taps) // 2
    result = np.empty(ceil(len(samples) * up / down), np.float32)
    reach = half // up + 1
    padded = np.pad(samples, (reach, reach + down))
    for phase in range(min(up, len(result))):
        first = -((half - phase * down) // up)
        last = (half + phase * down) // up
        weights = taps[half + phase * down - np.arange(first, last + 1) * up]
        part = result[phase::up]
        windows = np.lib.stride_tricks.sliding_window_view(padded[reach + first :], len(weights))
        part[:] = windows[::down][: len(part)] @ weights
    return result


@lru_cache(maxsize=16)
def _filter(up: int, down: int) -> Samples:
    """Return the taps of a low-pass filter at `up` times the rate of the samples."""
    widest = max(up, down)
    places = np.arange(-CROSSINGS * widest, CROSSINGS * widest + 1)
    taps = np.sinc(CUTOFF * places / widest) * np.kaiser(len(places), BETA)
    return np.asarray(taps * (up / taps.sum()), np.float32)


class AudioPreprocess:
    """WAV, FLAC or OGG → {input: float32 [length]}, NaN behind the end; tells `seconds`."""

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        match manifest.preprocess.steps:
            case (Pcm(), Resample() as to, Pad() as pad):
                self._rate, self._lengths = to.rate, sorted(pad.lengths)
            case _:
                raise InvalidArtifact(
                    "preprocess.steps of an audio model must be pcm, resample and pad",
                    'write [{"op": "pcm"}, {"op": "resample", …}, {"op": "pad", …}]',
                )
        self._input = manifest.inputs[0].name

    def peek(self, data: bytes) -> Pending:
        """Read the header of the encoded sound `data`."""
        if not data:
            raise InvalidInput("the sound is empty: no bytes were sent")
        with _blaming_the_sound(data):
            sound = soundfile.SoundFile(BytesIO(data))
        self._check(sound)
        _check_whole(data)
        samples = sound.frames * sound.channels
        return Pending(
            large=max(samples, len(data)) > SMALL,
            unpacked=samples * SAMPLE + self._length(sound) * RESAMPLED,
            finish=partial(self._prepare, sound),
        )

    def _check(self, sound: soundfile.SoundFile) -> None:
        if sound.format not in FORMATS:
            raise UnsupportedMedia(f"the sound is {sound.format[:20]}; send WAV, FLAC or OGG")
        if sound.samplerate not in RATES:
            raise InvalidInput(
                f"the sound has {sound.samplerate:,} samples a second; this service takes whole "
                f"multiples of {RATES.step} from {RATES[0]:,} to {RATES[-1]:,}: resample it"
            )
        if sound.channels > MAX_CHANNELS:
            raise InvalidInput(
                f"the sound has {sound.channels} channels; send {MAX_CHANNELS} or fewer"
            )
        if self._length(sound) > self._lengths[-1]:
            raise InputTooLarge(
                f"the sound lasts {sound.frames / sound.samplerate:,.1f} s; this model takes at "
                f"most {self._lengths[-1] / self._rate:g} s: send it in parts"
            )

    def _length(self, sound: soundfile.SoundFile) -> int:
        return ceil(int(sound.frames) * self._rate / int(sound.samplerate))

    def _prepare(self, sound: soundfile.SoundFile) -> Prepared:
        with _blaming_the_sound(b""), sound:
            channels = sound.read(dtype="float32", always_2d=True)
        if len(channels) < sound.frames:
            raise InvalidInput("the sound is truncated: it ends before its header says")
        samples = resample(_mixed(channels), sound.samplerate, self._rate)
        padded = np.full(
            self._lengths[bisect_left(self._lengths, len(samples))], np.nan, np.float32
        )
        padded[: len(samples)] = samples
        return Prepared({self._input: padded}, {"seconds": round(len(samples) / self._rate, 3)})


def _mixed(channels: Samples) -> Samples:
    """Return the mean of the channels, cut to [-1, 1]."""
    if not len(channels):
        raise InvalidInput("the sound is empty: it has no samples")
    if not np.isfinite(channels).all():
        raise InvalidInput("the sound has samples that are not numbers")
    mean = channels.mean(axis=1, dtype=np.float64).clip(-1, 1)
    return np.asarray(mean, np.float32)


def _check_whole(data: bytes) -> None:
    # The decoder takes what there is of a WAV file without a word.
    stated = int.from_bytes(data[4:8], "little")
    if data.startswith(b"RIFF") and stated not in UNKNOWN and stated + 8 > len(data) + 1:
        raise InvalidInput(
            f"the sound is truncated: its header announces {stated + 8:,} bytes, "
            f"{len(data):,} were sent"
        )


@contextmanager
def _blaming_the_sound(data: bytes) -> Iterator[None]:
    """Turn whatever the decoder stumbles over into the caller's error."""
    try:
        yield
    except ConvserveError:
        raise
    except Exception as error:
        if data and not data.startswith(BEGINNINGS):
            raise UnsupportedMedia("the bytes are no WAV, FLAC or OGG sound") from None
        raise InvalidInput(f"the sound cannot be decoded: {str(error)[:200]}") from error
