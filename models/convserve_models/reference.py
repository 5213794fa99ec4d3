"""The training side's own reading of the preprocessing words (table in docs/api.md).

The service has another implementation of the same table on purpose: the goldens, computed here,
hold the two together.
"""

from __future__ import annotations

import io
import math
from binascii import crc32
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from convserve_models.recipe import Preprocess, Step

FILTERS = {kernel.name.lower(): kernel for kernel in Image.Resampling}


def read(content: bytes, preprocess: Preprocess) -> NDArray[Any]:
    """Raw bytes -> the network's input, without a batch axis."""
    if preprocess.modality == "image":
        return image(content, preprocess.steps)
    if preprocess.modality == "audio":
        return audio(content, preprocess.steps)
    if preprocess.modality == "cepstra":
        return cepstra(content, preprocess.steps)
    return text(content.decode(), preprocess.steps)


def image(encoded: bytes, steps: Sequence[Step]) -> NDArray[np.uint8]:
    """Encoded image -> `uint8 [H,W,3]`."""
    picture: Image.Image = Image.open(io.BytesIO(encoded))
    for step in steps:
        picture = _image_step(picture, step)
    return np.asarray(picture, np.uint8)


def _image_step(picture: Image.Image, step: Step) -> Image.Image:
    if step["op"] == "decode":
        return _rgb(ImageOps.exif_transpose(picture))
    if step["op"] == "resize":
        shorter = step["shorter"]
        width, height = picture.size
        scale = min(width, height)
        size = (width * shorter // scale, height * shorter // scale)
        kernel = FILTERS[step.get("filter", "bilinear")]
        # Which side Pillow takes first depends on its version.
        return picture.resize((size[0], height), kernel).resize(size, kernel)
    if step["op"] == "center_crop":
        height, width = step["size"]
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        return picture.crop((left, top, left + width, top + height))
    raise ValueError(f"{step['op']!r} is no image step")


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow would clip: keep the high byte
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    colours = picture.convert("RGBA")
    paper = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(paper, colours).convert("RGB")


def text(string: str, steps: Sequence[Step]) -> NDArray[np.int64]:
    """Text -> ids `int64 [length]`: characters of one length, words of that of a bucket."""
    ids: NDArray[np.int64] | None = None
    for step in steps:
        if step["op"] == "lowercase":
            string = string.lower()
        elif step["op"] == "characters":
            ids = _characters(string, step["alphabet"], step["length"], step.get("reverse", False))
        elif step["op"] == "words":
            ids = _words(string, step["length"])
        elif step["op"] == "pad" and ids is not None:
            ids = np.pad(ids, (0, _bucket(len(ids), step["lengths"]) - len(ids)))
        else:
            raise ValueError(f"{step['op']!r} is no text step")
    if ids is None:
        raise ValueError("text steps must have 'characters' or 'words'")
    return ids


def _bucket(length: int, lengths: Sequence[int]) -> int:
    """The smallest of the lengths that has room."""
    return min(size for size in lengths if size >= length)


def _characters(string: str, alphabet: str, length: int, reverse: bool) -> NDArray[np.int64]:
    known = [alphabet.find(character) + 1 for character in string[:length]]
    ids = np.zeros(length, np.int64)
    ids[: len(known)] = known[::-1] if reverse else known
    return ids


def _words(string: str, length: int) -> NDArray[np.int64]:
    hashes = (crc32(word.encode()) or 1 for word in islice(_split(string), length))
    return np.fromiter(hashes, np.int64)


def _split(string: str) -> Iterator[str]:
    for kind, run in groupby(string, _kind):
        if kind == "letter":
            yield "".join(run)
        elif kind == "mark":
            yield from run


def _kind(character: str) -> str:
    if character.isalnum() or character == "_":
        return "letter"
    return "space" if character.isspace() else "mark"


def audio(encoded: bytes, steps: Sequence[Step]) -> NDArray[np.float32]:
    """Encoded sound -> `float32 [length]`, NaN behind the end."""
    # Not at the top: who trains on arrays needs no decoder.
    import soundfile

    channels, rate = soundfile.read(io.BytesIO(encoded), dtype="float64", always_2d=True)
    samples = channels.mean(axis=1).clip(-1, 1)
    for step in steps:
        if step["op"] == "resample":
            samples = _resampled(samples, rate, step["rate"])
        elif step["op"] == "pad":
            samples = _padded(samples, step["lengths"])
    return np.asarray(samples, np.float32)


def _resampled(samples: NDArray[np.float64], rate: int, to: int) -> NDArray[np.float64]:
    from scipy.signal import firwin, upfirdn

    up, down = to // math.gcd(rate, to), rate // math.gcd(rate, to)
    if up == down:
        return samples
    widest = max(up, down)
    half = 24 * widest
    taps = up * firwin(2 * half + 1, 0.95 / widest, window=("kaiser", 8.0))
    # Zeros before the taps bring their middle to a multiple of `down`, where a result is.
    early = -half % down
    filtered = upfirdn(np.pad(taps, (early, 0)), samples, up, down)
    first = (half + early) // down
    return np.asarray(filtered[first : first + math.ceil(len(samples) * up / down)])


def cepstra(content: bytes, steps: Sequence[Step]) -> NDArray[np.float32]:
    """NumPy file -> `float32 [length, coefficients]`, NaN behind the end."""
    frames = np.load(io.BytesIO(content), allow_pickle=False)
    return _padded(frames.astype(np.float64), steps[-1]["lengths"]).astype(np.float32)


def _padded(sequence: NDArray[np.float64], lengths: Sequence[int]) -> NDArray[np.float64]:
    length = min(length for length in lengths if length >= len(sequence))
    behind = [(0, length - len(sequence))] + [(0, 0)] * (sequence.ndim - 1)
    return np.pad(sequence, behind, constant_values=np.nan)
