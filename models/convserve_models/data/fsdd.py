"""FSDD: spoken digits of six speakers (Jackson et al.), joined into strings of one to five.

Official: a checkout of the repository, `recordings/<digit>_<speaker>_<take>.wav`, 3,000 clips.
Packed: `train.npz`, `test.npz`, the same clips but for takes 45-49. Takes 0-4 are the published
test split; takes 5-9 are held out here. A string joins clips of one speaker and one split, with
silence around and between them, under one hiss. The seeds are fixed: everybody gets the same.
"""

from __future__ import annotations

import lzma
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convserve_models.data import Card, Dataset, FetchError, Split, Variant
from convserve_models.data.transcripts import encode

CARD = Card(
    name="fsdd",
    source="https://github.com/Jakobovski/free-spoken-digit-dataset, commit 26eb9aaf76e8",
    licence="CC-BY-SA-4.0",
    labels=tuple(" efghinorstuvwxz"),
)
RATE = 8000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
LONGEST = 5
PAUSE = (0.02, 0.35)
"""Seconds of silence between two digits, at the beginning and at the end."""
# Takes of a split, its number of strings and its seed.
TEST, HELD_OUT, TRAIN = range(5), range(5, 10), range(10, 50)
STRINGS = {TEST: (500, 1), HELD_OUT: (500, 2), TRAIN: (8000, 3)}


@dataclass(frozen=True, slots=True)
class Clip:
    """One digit, `int16` at 8 kHz, and where it comes from."""

    samples: NDArray[np.int16]
    digit: int
    speaker: str
    take: int


def load(folder: Path) -> Dataset:
    """Read the packed layout if it is in `folder`, else the official one, and join strings."""
    clips, variant = _clips(folder)
    test, held_out, train = (strings(clips, takes) for takes in (TEST, HELD_OUT, TRAIN))
    return Dataset(CARD, variant, train, test, held_out)


def without(speaker: str, folder: Path) -> Dataset:
    """The same strings of the other speakers alone, and a test of 500 by this one.

    No clip of the speaker is heard before the test, so that has the many takes of a training.
    """
    clips, variant = _clips(folder)
    others = [clip for clip in clips if clip.speaker != speaker]
    unheard = [clip for clip in clips if clip.speaker == speaker]
    held_out, train = (strings(others, takes) for takes in (HELD_OUT, TRAIN))
    test = strings(unheard, TRAIN).take(np.arange(500))
    return Dataset(CARD, variant, train, test, held_out)


def strings(clips: list[Clip], takes: range) -> Split:
    """As many strings as `STRINGS` says, of the clips with these takes."""
    count, seed = STRINGS[takes]
    random = np.random.default_rng(seed)
    speakers = [s for s in SPEAKERS if any(clip.speaker == s for clip in clips)]
    voices = [[c for c in clips if c.take in takes and c.speaker == s] for s in speakers]
    sounds, texts = [], []
    for _ in range(count):
        voice = voices[random.integers(len(voices))]
        said = [voice[i] for i in random.integers(0, len(voice), random.integers(1, LONGEST + 1))]
        sounds.append(_joined(said, random))
        texts.append(" ".join(DIGITS[clip.digit] for clip in said))
    return Split(sounds, encode(texts, CARD.labels))


def _joined(clips: list[Clip], random: np.random.Generator) -> NDArray[np.int16]:
    pauses = (RATE * random.uniform(*PAUSE, len(clips) + 1)).astype(int)
    parts = [np.zeros(pauses[0])]
    for clip, pause in zip(clips, pauses[1:], strict=True):
        parts += [clip.samples.astype(np.float64), np.zeros(pause)]
    sound = np.concatenate(parts)
    hiss = sound.std() * 10 ** (random.uniform(-50, -25) / 20)
    noisy = sound + hiss * random.standard_normal(len(sound))
    return np.asarray(noisy.clip(-32768, 32767), np.int16)


def _clips(folder: Path) -> tuple[list[Clip], Variant]:
    if (folder / "train.npz").exists():
        return list(_packed(folder)), "packed"
    return list(_official(folder)), "official"


def _packed(folder: Path) -> Iterator[Clip]:
    for part in ("train", "test"):
        with np.load(folder / f"{part}.npz") as file:
            planes = np.frombuffer(lzma.decompress(file["pcm_xz"].tobytes()), np.uint8)
            steps = np.ascontiguousarray(planes.reshape(2, -1).T).view("<i2").ravel()
            sounds = np.split(np.cumsum(steps, dtype=np.int16), file["offsets"][1:-1])
            facts = zip(file["digit"], file["speaker"], file["take"], strict=True)
            for samples, (digit, speaker, take) in zip(sounds, facts, strict=True):
                yield Clip(samples, int(digit), SPEAKERS[speaker], int(take))


def _official(folder: Path) -> Iterator[Clip]:
    paths = sorted((folder / "recordings").glob("*.wav"))
    if not paths:
        raise FetchError(f"clone {CARD.source} into {folder}; no recordings/*.wav are there")
    for path in paths:
        digit, speaker, take = path.stem.split("_")
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
        yield Clip(samples, int(digit), speaker, int(take))
