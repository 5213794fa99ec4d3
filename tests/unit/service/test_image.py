import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from convserve.artifact import read_manifest
from convserve.errors import (
    CallerError,
    InputTooLarge,
    InvalidArtifact,
    InvalidInput,
    UnsupportedMedia,
)
from convserve.manifest import Manifest
from convserve.preprocess import png
from convserve.preprocess.image import ImagePreprocess
from convserve.settings import Settings
from convserve_models import reference
from tests.artifacts import IMAGE, IMAGE_STEPS, SIDE, assert_rounded_alike, picture

KINDS = [
    *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
    *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("BMP", mode) for mode in ("RGB", "L", "P", "1")),
    *(("GIF", mode) for mode in ("P", "L")),
    *(("TIFF", mode) for mode in ("RGB", "RGBA", "L", "CMYK")),
]
FREE = [-1, -1, -1, 3]
Pixels = NDArray[Any]


@pytest.fixture(scope="module")
def manifest(pristine_store: Path) -> Manifest:
    return read_manifest(pristine_store / IMAGE / "1")


@pytest.fixture(scope="module")
def preprocess(manifest: Manifest) -> ImagePreprocess:
    return ImagePreprocess(manifest, Settings(max_pixels=10_000))


def pixels(preprocess: ImagePreprocess, data: bytes) -> Pixels:
    return preprocess.peek(data).finish().inputs["image"]


def with_steps(manifest: Manifest, steps: list[dict[str, Any]], shape: list[int]) -> Manifest:
    document = manifest.model_dump(mode="json", exclude_unset=True)
    document["preprocess"]["steps"] = steps
    document["inputs"][0]["shape"] = shape
    return Manifest.model_validate(document, strict=False)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be this large and has no pixels at all."""
    return png_file(width, height, b"")


def png_file(width: int, height: int, packed: bytes) -> bytes:
    """A PNG of 8-bit RGB whose only IDAT chunk holds `packed`."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    orientation=st.integers(1, 8),
)
def test_it_reads_pictures_as_the_training_side_does(
    preprocess: ImagePreprocess,
    kind: tuple[str, str],
    width: int,
    height: int,
    orientation: int,
) -> None:
    encoded = picture(width, height, *kind, orientation=orientation)
    ours = pixels(preprocess, encoded)
    assert ours.dtype == np.uint8
    assert_rounded_alike(ours, reference.image(encoded, IMAGE_STEPS))


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@st.composite
def plain_png(draw: st.DrawFn) -> bytes:
    """A PNG file with more or less in it beside its pixels, some of which `png` does not know."""
    size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    mode = draw(st.sampled_from(["RGB", "L", "RGBA", "P", "1", "I;16"]))
    image = Image.effect_noise(size, 90).convert(mode)
    further: dict[str, Any] = {"icc_profile": PROFILE, "gamma": 0.45, "dpi": (72, 72)}
    kept = draw(st.sets(st.sampled_from(sorted(further))))
    if draw(st.booleans()):
        further["exif"], kept = Image.Exif(), kept | {"exif"}
        further["exif"][0x0112] = draw(st.integers(1, 8))
    stream = io.BytesIO()
    image.save(stream, "PNG", **{key: further[key] for key in kept})
    return stream.getvalue()


def by_pillow(data: bytes, steps: list[dict[str, Any]]) -> Pixels | None:
    try:
        return reference.image(data, steps)
    except Exception:
        return None


def by_us(preprocess: ImagePreprocess, data: bytes) -> Pixels | None:
    try:
        return pixels(preprocess, data)
    except CallerError:
        return None


@pytest.mark.parametrize("steps", [[], IMAGE_STEPS[1:]])
@settings(max_examples=300, deadline=None)
@given(data=plain_png(), change=st.none() | st.tuples(st.integers(0, 2**16), st.integers(1, 255)))
def test_png_files_are_read_as_pillow_reads_them_or_not_at_all(
    manifest: Manifest,
    steps: list[dict[str, Any]],
    data: bytes,
    change: tuple[int, int] | None,
) -> None:
    if change:
        place, flips = change[0] % len(data), change[1]
        data = data[:place] + bytes([data[place] ^ flips]) + data[place + 1 :]
    steps = [{"op": "decode"}, *steps]
    free = ImagePreprocess(with_steps(manifest, steps, FREE), Settings())
    expected, found = by_pillow(data, steps), by_us(free, data)
    if expected is None or found is None:
        assert expected is found
    elif len(steps) == 1:
        np.testing.assert_array_equal(found, expected)
    else:
        assert_rounded_alike(found, expected)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(0, 7),
    cut=st.integers(0, 30),
    more=st.binary(max_size=3),
    change=st.tuples(st.integers(0, 99), st.sampled_from([0, 0, 1, 128])),
)
def test_what_pillow_reads_of_odd_pixels_is_read_the_same(
    manifest: Manifest, rows: int, cut: int, more: bytes, change: tuple[int, int]
) -> None:
    noise = np.random.default_rng(rows)
    lines = (bytes([noise.integers(5)]) + noise.bytes(3 * 5) for _ in range(rows))
    packed = bytearray(zlib.compress(b"".join(lines)))
    packed[change[0] % len(packed)] ^= change[1]
    data = png_file(5, 5, bytes(packed[: len(packed) - cut]) + more)
    free = ImagePreprocess(with_steps(manifest, [{"op": "decode"}], FREE), Settings())
    expected, found = by_pillow(data, [{"op": "decode"}]), by_us(free, data)
    if expected is not None:
        assert found is not None
        np.testing.assert_array_equal(found, expected)


@given(width=st.integers(1, 40), height=st.integers(1, 40), mode=st.sampled_from(["RGB", "L"]))
def test_plain_png_files_do_not_need_pillow(width: int, height: int, mode: str) -> None:
    stream = io.BytesIO()
    image = Image.effect_noise((width, height), 90).convert(mode)
    image.save(stream, "PNG", icc_profile=PROFILE)
    plain = png.read(stream.getvalue(), most=width * height)
    assert plain
    assert (plain.width, plain.height) == (width, height)
    np.testing.assert_array_equal(plain.pixels(), image.convert("RGB"))
    assert not png.read(stream.getvalue(), most=width * height - 1)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "box", "nearest"])
def test_every_filter_is_the_one_it_names(manifest: Manifest, name: str) -> None:
    steps: list[dict[str, Any]] = [{"op": "decode"}, {"op": "resize", "shorter": 5, "filter": name}]
    preprocess = ImagePreprocess(with_steps(manifest, steps, FREE), Settings())
    encoded = picture(40, 23)
    assert_rounded_alike(pixels(preprocess, encoded), reference.image(encoded, steps))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_high_byte(preprocess: ImagePreprocess, kind: str) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    deep, plain = io.BytesIO(), io.BytesIO()
    Image.fromarray(grey.astype(np.uint16) * 256 + 99).save(deep, kind)
    Image.fromarray(grey).save(plain, kind)
    np.testing.assert_array_equal(
        pixels(preprocess, deep.getvalue()), pixels(preprocess, plain.getvalue())
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_it_takes_the_first(preprocess: ImagePreprocess, kind: str) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], lossless=True)
    assert pixels(preprocess, stream.getvalue())[4, 4].tolist() == [255, 0, 0]


def test_what_is_transparent_is_white(preprocess: ImagePreprocess) -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(stream, "PNG")
    assert pixels(preprocess, stream.getvalue()).min() == 255


def test_damaged_exif_leaves_the_picture_as_it_is(preprocess: ImagePreprocess) -> None:
    stream = io.BytesIO()
    image = Image.new("RGB", (9, 9), "red")
    image.save(stream, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\xff\xff\0")
    assert pixels(preprocess, stream.getvalue())[4, 4].tolist() == [255, 0, 0]


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_damaged_pictures_are_the_callers_error(
    preprocess: ImagePreprocess, kind: tuple[str, str], data: st.DataObject
) -> None:
    damaged = bytearray(picture(30, 20, *kind))
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(damaged)))
    try:
        found = pixels(preprocess, bytes(damaged[:end]))
    except CallerError:
        return
    assert found.shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_picture_is_told_as_such(preprocess: ImagePreprocess, kind: tuple[str, str]) -> None:
    encoded = picture(60, 60, *kind)
    with pytest.raises(InvalidInput, match="image"):
        pixels(preprocess, encoded[: len(encoded) // 2])


@given(st.binary(min_size=1, max_size=200))
def test_what_is_no_picture_is_unsupported(preprocess: ImagePreprocess, data: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="no JPEG, PNG"):
        preprocess.peek(b"?" + data)


def test_no_bytes_are_no_picture(preprocess: ImagePreprocess) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        preprocess.peek(b"")


@pytest.mark.parametrize(("width", "height"), [(101, 100), (12_000, 12_000), (60_000, 60_000)])
def test_the_header_is_enough_to_refuse_many_pixels(
    preprocess: ImagePreprocess, width: int, height: int
) -> None:
    with pytest.raises(InputTooLarge, match="pixels"):
        preprocess.peek(png_header(width, height))


def test_a_line_is_refused(preprocess: ImagePreprocess) -> None:
    with pytest.raises(InvalidInput, match="100 times"):
        preprocess.peek(picture(1, 101))


def test_what_is_smaller_than_the_crop_is_refused(manifest: Manifest) -> None:
    steps: list[dict[str, Any]] = [{"op": "decode"}, {"op": "center_crop", "size": [SIDE, SIDE]}]
    preprocess = ImagePreprocess(with_steps(manifest, steps, [-1, SIDE, SIDE, 3]), Settings())
    with pytest.raises(InvalidInput, match="at least 8×8"):
        pixels(preprocess, picture(7, 9))


def test_what_does_not_have_the_graphs_size_is_refused(manifest: Manifest) -> None:
    only_decode = with_steps(manifest, [{"op": "decode"}], [-1, SIDE, SIDE, 3])
    with pytest.raises(InvalidInput, match=r"9×8 pixels .* \[8, 8, 3\]"):
        pixels(ImagePreprocess(only_decode, Settings()), picture(9, 8))


def test_large_work_is_known_by_its_header(preprocess: ImagePreprocess, manifest: Manifest) -> None:
    assert not preprocess.peek(picture(32, 32)).large
    assert ImagePreprocess(manifest, Settings()).peek(picture(300, 300, "JPEG")).large


@pytest.mark.parametrize(
    "steps",
    [
        [{"op": "resize", "shorter": 8}],
        [{"op": "decode"}, {"op": "decode"}],
        [{"op": "decode"}, {"op": "lowercase"}],
    ],
)
def test_steps_that_cannot_work_are_refused(
    manifest: Manifest, steps: list[dict[str, Any]]
) -> None:
    with pytest.raises(InvalidArtifact, match=r"preprocess\.steps"):
        ImagePreprocess(with_steps(manifest, steps, FREE), Settings())
