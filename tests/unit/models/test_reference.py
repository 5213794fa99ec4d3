"""The reference reading of the preprocessing words."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convserve_models import reference
from convserve_models.alphabet import CREPE
from convserve_models.recipe import Step

CHARACTERS = {"op": "characters", "alphabet": CREPE, "length": 40, "reverse": True}


def encoded(picture: Image.Image, kind: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def decoded(picture: Image.Image, kind: str = "png", **options: object) -> np.ndarray:
    return reference.image(encoded(picture, kind, **options), [{"op": "decode"}])


def test_alphabet_is_the_papers() -> None:
    assert len(CREPE) == 70
    assert len(set(CREPE)) == 69
    assert CREPE.count("-") == 2


@given(st.text(st.sampled_from(CREPE), max_size=40))
def test_known_characters_come_back_in_reverse(text: str) -> None:
    ids = reference.text(text, [CHARACTERS])
    read = "".join(CREPE[i - 1] for i in ids[: len(text)])
    assert read == text[::-1]
    assert not ids[len(text) :].any()


@given(st.text(max_size=90))
def test_text_becomes_ids_of_fixed_length(text: str) -> None:
    ids = reference.text(text, [{"op": "lowercase"}, CHARACTERS])
    kept = text.lower()[:40]
    assert ids.shape == (40,)
    assert ids.dtype == np.int64
    assert [i > 0 for i in ids[: len(kept)]] == [character in CREPE for character in kept[::-1]]


def test_dash_is_its_first_position_and_unknown_is_zero() -> None:
    ids = reference.text("-é", [CHARACTERS | {"reverse": False}])
    assert ids[:2].tolist() == [CREPE.index("-") + 1, 0]


def test_words_are_runs_of_letters_and_single_marks() -> None:
    steps: list[Step] = [{"op": "lowercase"}, {"op": "words", "length": 9}]
    ids = reference.text(" Don't  stop_it…!! Ünïcode ٣٤ never_read", steps)
    words = ["don", "'", "t", "stop_it", "…", "!", "!", "ünïcode", "٣٤"]
    assert ids.tolist() == [zlib.crc32(word.encode()) for word in words]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8))
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that stores it so
    stored = (
        upright.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else upright
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decoded(stored, exif=exif), np.asarray(upright))


def test_transparency_becomes_white() -> None:
    pixels = np.full((4, 4, 4), [200, 0, 0, 0], np.uint8)
    pixels[:2, :, 3] = 255
    seen = decoded(Image.fromarray(pixels))
    assert (seen[:2] == [200, 0, 0]).all()
    assert (seen[2:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_three_channels(mode: str) -> None:
    picture = Image.new("L", (5, 4), 128)
    stored = Image.new("I;16", (5, 4), 128 * 257) if mode == "I;16" else picture.convert(mode)
    seen = decoded(stored)
    assert seen.shape == (4, 5, 3)
    assert mode == "1" or abs(seen.astype(int) - 128).max() <= 1


@given(st.integers(3, 70), st.integers(3, 70))
def test_resize_and_crop_fit_any_shape(width: int, height: int) -> None:
    picture = Image.new("RGB", (width, height), "teal")
    steps: list[Step] = [
        {"op": "decode"},
        {"op": "resize", "shorter": 8},
        {"op": "center_crop", "size": [8, 8]},
    ]
    seen = reference.image(encoded(picture), steps)
    assert seen.shape == (8, 8, 3)
    assert (seen == [0, 128, 128]).all()


def test_resize_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    steps: list[Step] = [{"op": "decode"}, {"op": "resize", "shorter": 8}]
    seen = reference.image(encoded(Image.fromarray(stripes)), steps)
    assert abs(seen.astype(int) - 127).max() < 10


def test_foreign_words_are_refused() -> None:
    with pytest.raises(ValueError, match="lowercase"):
        reference.image(encoded(Image.new("RGB", (2, 2))), [{"op": "lowercase"}])
    with pytest.raises(ValueError, match="decode"):
        reference.text("a", [{"op": "decode"}])
    with pytest.raises(ValueError, match="characters"):
        reference.text("a", [{"op": "lowercase"}])
