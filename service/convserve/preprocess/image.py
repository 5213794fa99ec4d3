"""Encoded images → RGB arrays, as the steps of the manifest say (kernels: docs/api.md)."""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
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
SIZES = 256  # of images, of which it is remembered whether a step changes them
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
        self._unchanged = lru_cache(SIZES)(self._leave)
        self._input = manifest.inputs[0]
        own_limit = manifest.limits.max_pixels or settings.max_pixels
        self._max_pixels = min(settings.max_pixels, own_limit)

    def peek(self, data: bytes) -> Pending:
        """Read the header of the encoded image `data`."""
        if not data:
            raise InvalidInput("the image is empty: no bytes were sent")
        plain = png.read(data, SMALL) if len(data) <= SMALL else None
        if plain:
            self._check_size(plain.width, plain.height)
            unpacked = plain.width * plain.height * PIXEL
            return Pending(False, unpacked, partial(self._plain, data, plain))
        image = _open(data)
        self._check_size(image.width, image.height)
        pixels = image.width * image.height
        large = max(pixels, len(data)) > SMALL
        finish = partial(self._changed, partial(decode, image))
        return Pending(large, pixels * PIXEL, finish)

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

    def _plain(self, data: bytes, plain: png.Plain) -> Prepared:
        try:
            pixels = plain.pixels()
        except Exception:  # damaged: Pillow knows what to say
            return self._changed(partial(decode, _open(data)))
        if self._unchanged(plain.width, plain.height):
            return self._prepared(pixels)
        return self._changed(partial(Image.fromarray, pixels))

    def _leave(self, width: int, height: int) -> bool:
        """Tell whether no step changes an image of this size."""
        return all(fits((width, height), step) for step in self._steps)

    def _changed(self, decoded: Callable[[], Image.Image]) -> Prepared:
        try:
            image = decoded()
            for step in self._steps:
                if not fits(image.size, step):
                    image = STEPS[step.op](image, step)
            pixels = np.frombuffer(image.tobytes(), np.uint8)
        except ConvserveError:
            raise
        except Exception as error:
            raise _fault(error) from error
        return self._prepared(pixels.reshape(image.height, image.width, 3))

    def _prepared(self, pixels: Pixels) -> Prepared:
        self._check_shape(pixels.shape)
        return Prepared({self._input.name: pixels}, {})

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
