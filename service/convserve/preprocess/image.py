"""Encoded images → RGB arrays, as the steps of the manifest say (kernels: docs/api.md)."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from convserve.errors import (
    ConvserveError,
    InputTooLarge,
    InvalidArtifact,
    InvalidInput,
    UnsupportedMedia,
)
from convserve.manifest import CenterCrop, Manifest, Resize
from convserve.preprocess import png
from convserve.preprocess.prepared import SMALL, Pending, Prepared
from convserve.preprocess.resize import resized
from convserve.settings import Settings

# Naming the plugins keeps Pillow from importing all of its forty.
FORMATS = [
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
    )
]
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")
PIXEL = 4  # bytes that Pillow keeps for one
Pixels = NDArray[np.uint8]  # [H,W,3]
MAX_ASPECT = 100  # the longer side is resized in proportion: a line would become a wall


def decode(image: Image.Image) -> Image.Image:
    """Return the first frame, upright, over white, as 8-bit RGB."""
    image.load()
    # The pixels are read: damaged EXIF only leaves them as they lie.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    image = _eight_bits(image)
    if not image.has_transparency_data:
        # Converting copies, even to the same mode: a fifth of what a large photo costs.
        return image if image.mode == "RGB" else image.convert("RGB")
    colours = image.convert("RGBA")
    paper = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(paper, colours).convert("RGB")


def fits(size: tuple[int, int], step: Resize | CenterCrop) -> bool:
    """Tell whether a step leaves an image of this (width, height) as it is."""
    return min(size) == step.shorter if isinstance(step, Resize) else size == step.size[::-1]


def resize(image: Image.Image, step: Resize) -> Image.Image:
    """Return the image with its shorter side `shorter` pixels long, antialiased."""
    shorter = min(image.size)
    size = image.width * step.shorter // shorter, image.height * step.shorter // shorter
    return resized(image, size, step.filter)


def center_crop(image: Image.Image, step: CenterCrop) -> Image.Image:
    """Return the middle; InvalidInput if the image is smaller than that."""
    height, width = step.size
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if left < 0 or top < 0:
        raise InvalidInput(
            f"the image is {image.width}×{image.height} pixels; "
            f"this model needs at least {width}×{height}"
        )
    return image.crop((left, top, left + width, top + height))


STEPS: dict[str, Callable[[Image.Image, Any], Image.Image]] = {
    "resize": resize,
    "center_crop": center_crop,
}


@dataclass(slots=True)
class Encoded:
    """An image whose header was read: its size in pixels, and what decodes it.

    If it is a plain one, `plain` has the same pixels for less.
    """

    width: int
    height: int
    decode: Callable[[], Image.Image]
    plain: png.Plain | None = None


class ImagePreprocess:
    """Encoded image → {input: uint8 [H,W,3]}."""

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        steps = manifest.preprocess.steps
        if [step.op == "decode" for step in steps] != [True] + [False] * (len(steps) - 1):
            raise InvalidArtifact(
                "preprocess.steps of an image model must decode once, first",
                'begin them with {"op": "decode"}',
            )
        self._steps = [step for step in steps[1:] if isinstance(step, Resize | CenterCrop)]
        unknown = [step.op for step in steps[1:] if step not in self._steps]
        if unknown:
            raise InvalidArtifact(
                f"preprocess.steps: {unknown[0]!r} does not work on images",
                f"use decode, then {', '.join(STEPS)}",
            )
        self._input = manifest.inputs[0]
        own_limit = manifest.limits.max_pixels or settings.max_pixels
        self._max_pixels = min(settings.max_pixels, own_limit)

    def peek(self, data: bytes) -> Pending:
        """Read the header of the encoded image `data`."""
        encoded = _opened(data)
        self._check_size(encoded.width, encoded.height)
        pixels = encoded.width * encoded.height
        return Pending(
            large=max(pixels, len(data)) > SMALL,
            unpacked=pixels * PIXEL,
            finish=partial(self._prepare, encoded),
        )

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise InputTooLarge(
                f"the image is {width}×{height} pixels; at most {self._max_pixels:,} are taken"
            )
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise InvalidInput(
                f"the image is {width}×{height} pixels; "
                f"one side may be at most {MAX_ASPECT} times the other"
            )

    def _prepare(self, encoded: Encoded) -> Prepared:
        pixels = self._unchanged(encoded)
        if pixels is None:
            pixels = self._changed(encoded)
        self._check_shape(pixels.shape)
        return Prepared({self._input.name: pixels}, {})

    def _unchanged(self, encoded: Encoded) -> Pixels | None:
        """Return the pixels of a plain file that no step changes; None for any other."""
        size = encoded.width, encoded.height
        if not encoded.plain or not all(fits(size, step) for step in self._steps):
            return None
        try:
            return encoded.plain.pixels()
        except Exception:
            return None

    def _changed(self, encoded: Encoded) -> Pixels:
        try:
            image = encoded.decode()
            for step in self._steps:
                if not fits(image.size, step):
                    image = STEPS[step.op](image, step)
            pixels = np.frombuffer(image.tobytes(), np.uint8)
        except ConvserveError:
            raise
        except Exception as error:
            raise _fault(error) from error
        return pixels.reshape(image.height, image.width, 3)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        wanted = self._input.shape[1:]
        if shape == wanted:
            return
        if len(wanted) != len(shape) or any(
            size not in (-1, actual) for size, actual in zip(wanted, shape, strict=True)
        ):
            raise InvalidInput(
                f"the image has {shape[1]}×{shape[0]} pixels after preprocessing; "
                f"this model takes [height, width, channels] = {list(wanted)}"
            )


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return 16-bit grey as 8-bit grey: the high byte, as Pillow reads 16-bit colour."""
    if image.mode == "F":
        raise InvalidInput("the image has floating-point samples; send 8 or 16 bits per sample")
    if not image.mode.startswith("I"):
        return image
    samples = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return Image.fromarray((samples >> 8).astype(np.uint8))


def _opened(data: bytes) -> Encoded:
    if not data:
        raise InvalidInput("the image is empty: no bytes were sent")
    if len(data) <= SMALL and (plain := png.read(data, SMALL)):
        return Encoded(plain.width, plain.height, partial(_decode, data, plain), plain)
    image = _open(data)
    return Encoded(image.width, image.height, partial(decode, image))


def _decode(data: bytes, plain: png.Plain) -> Image.Image:
    try:
        return Image.fromarray(plain.pixels())
    except Exception:  # damaged: Pillow knows what to say
        return decode(_open(data))


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise _fault(error, data) from None


def _fault(error: Exception, data: bytes = b"") -> ConvserveError:
    """Return whatever a decoder stumbled over as the caller's error."""
    match error:
        case UnidentifiedImageError() if data.startswith(BEGINNINGS):
            return InvalidInput("the image has a broken or truncated header")
        case UnidentifiedImageError():
            return UnsupportedMedia("the bytes are no JPEG, PNG, WebP, BMP, GIF or TIFF image")
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return InputTooLarge(f"the image has too many pixels: {error}")
    # Decoders fed with garbage raise anything from SyntaxError to struct.error.
    return InvalidInput(f"the image cannot be decoded: {str(error)[:200]}")
