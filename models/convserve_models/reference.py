"""The training side's own reading of the preprocessing words (table in docs/api.md).

The service has another implementation of the same table on purpose: the goldens, computed here,
hold the two together.
"""

from __future__ import annotations

import io
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
        return picture.resize(size, FILTERS[step.get("filter", "bilinear")])
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
    """Text -> ids, `int64 [length]` of characters and `int64 [n ≤ length]` of words."""
    ids: NDArray[np.int64] | None = None
    for step in steps:
        if step["op"] == "lowercase":
            string = string.lower()
        elif step["op"] == "characters":
            ids = _characters(string, step["alphabet"], step["length"], step.get("reverse", False))
        elif step["op"] == "words":
            ids = _words(string, step["length"])
        else:
            raise ValueError(f"{step['op']!r} is no text step")
    if ids is None:
        raise ValueError("text steps must end with 'characters' or 'words'")
    return ids


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
