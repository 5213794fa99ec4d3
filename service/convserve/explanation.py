"""What an input looks like with parts hidden, and what hiding them says of the answer.

Occlusion (Zeiler & Fergus, 1311.2901, §4.3): a part matters as much as the probability of the label
falls when it is hidden. It needs nothing of the model but its answers. Models with a graph that
explains have other methods too; all of them end in a map, and a map in a picture.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from math import ceil, isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Window = tuple[slice, slice]
Span = tuple[int, int]
Heat = NDArray[np.float32]

HIDDEN = "\N{REPLACEMENT CHARACTER}"  # in no alphabet, and no white space
WORD = re.compile(r"\S+")
SHOWN = 256  # pixels that the shorter side of an overlay has at least
FOR, AGAINST = (255, 40, 0), (0, 80, 255)  # red speaks for the label, blue against it
OPACITY = 0.7
MAPS, SIDE, COLUMNS = 64, 64, 16  # of a layer: at most so many, so large, in so many columns


def windows(height: int, width: int, most: int) -> list[Window]:
    """Return at most so many windows that cover the picture, each overlapping its neighbours."""
    rows, columns = _intervals(height, isqrt(most)), _intervals(width, isqrt(most))
    return [(row, column) for row in rows for column in columns]


def _intervals(length: int, most: int) -> list[slice]:
    """Return evenly spaced intervals, two steps long except at the borders."""
    step = ceil(length / most)
    return [
        slice(max(0, start - step // 2), start + step + ceil(step / 2))
        for start in range(0, length, step)
    ]


def covered(pixels: NDArray[Any], hidden: Iterable[Window]) -> Iterator[NDArray[Any]]:
    """Yield the picture [H, W, channels] with its mean colour in each window."""
    colour = pixels.mean(axis=(0, 1)).astype(pixels.dtype)
    for window in hidden:
        copy = pixels.copy()
        copy[window] = colour
        yield copy


def heat(shape: Span, hidden: Sequence[Window], drops: Iterable[float]) -> Heat:
    """Return for every pixel the mean drop over the windows that hid it."""
    total, count = np.zeros(shape), np.zeros(shape)
    for window, drop in zip(hidden, drops, strict=True):
        total[window] += drop
        count[window] += 1
    return (total / np.maximum(count, 1)).astype(np.float32)


def strongest(values: NDArray[np.float32]) -> Heat:
    """Return [H, W]: of values [H, W, channels] the largest magnitude (1312.6034, §3.1)."""
    return values if values.ndim == 2 else np.abs(values).max(axis=2)


def spans(text: str, most: int) -> list[Span]:
    """Return the words as [start, end) in code points, joined with neighbours if too many."""
    words = [match.span() for match in WORD.finditer(text)]
    each = max(1, ceil(len(words) / most))
    groups = (words[place : place + each] for place in range(0, len(words), each))
    return [(group[0][0], group[-1][1]) for group in groups]


def silenced(text: str, hidden: Iterable[Span]) -> Iterator[str]:
    """Yield the text with each span made unknown characters."""
    for start, end in hidden:
        yield text[:start] + HIDDEN * (end - start) + text[end:]


def overlay(pixels: NDArray[np.uint8], importance: Heat) -> bytes:
    """Return a PNG of the picture [H, W, 3] under its map [H, W], enlarged if it is small."""
    factor = max(1, ceil(SHOWN / min(importance.shape)))
    size = pixels.shape[1] * factor, pixels.shape[0] * factor
    picture = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    strength = importance / max(float(np.abs(importance).max()), 1e-12)
    smooth = np.asarray(Image.fromarray(strength).resize(size, Image.Resampling.BILINEAR))
    smooth = smooth[..., None]
    opacity = OPACITY * np.minimum(np.abs(smooth), 1)
    blended = picture * (1 - opacity) + np.where(smooth > 0, FOR, AGAINST) * opacity
    file = io.BytesIO()
    Image.fromarray(blended.round().astype(np.uint8)).save(file, "png")
    return file.getvalue()


def mosaic(maps: NDArray[np.float32]) -> bytes:
    """Return a PNG of a layer's maps [channels, H, W], the first ones, a line between them.

    Black is nothing or less, white the layer's largest value, grey in between as the square root:
    most values are small.
    """
    step = ceil(max(maps.shape[1:]) / SIDE)
    shown = np.maximum(maps[:MAPS, ::step, ::step], 0)
    grey = (255 * np.sqrt(shown / max(float(shown.max()), 1e-12))).round().astype(np.uint8)
    count, height, width = grey.shape
    rows = ceil(count / COLUMNS)
    tiles = np.zeros((rows * COLUMNS, height + 1, width + 1), np.uint8)
    tiles[:count, :height, :width] = grey
    sheet = tiles.reshape(rows, COLUMNS, height + 1, width + 1).swapaxes(1, 2)
    file = io.BytesIO()
    Image.fromarray(sheet.reshape(rows * (height + 1), -1)).save(file, "png")
    return file.getvalue()
