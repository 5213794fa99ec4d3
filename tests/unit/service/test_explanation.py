"""What is hidden covers the input, and what is found lies where the answer comes from."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convserve import explanation

SIZES = st.integers(1, 60)
MOST = st.integers(1, 100)
PROSE = st.text(st.sampled_from("ab é\n\t\N{GRINNING FACE}İ."), max_size=60)


@given(height=SIZES, width=SIZES, most=MOST)
def test_windows_cover_every_pixel_and_are_not_too_many(height: int, width: int, most: int) -> None:
    found = explanation.windows(height, width, most)
    assert 1 <= len(found) <= most
    count = np.zeros((height, width), int)
    for window in found:
        assert count[window].size > 0
        count[window] += 1
    assert count.min() >= 1


@given(height=SIZES, width=SIZES, most=MOST)
def test_covering_changes_nothing_outside_the_window(height: int, width: int, most: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    before = pixels.copy()
    windows = explanation.windows(height, width, most)
    for window, copy in zip(windows, explanation.covered(pixels, windows), strict=True):
        assert np.ptp(copy[window].reshape(-1, 3), axis=0).max() == 0
        copy[window] = before[window]
        np.testing.assert_array_equal(copy, before)
    np.testing.assert_array_equal(pixels, before)


@settings(deadline=None)
@given(side=st.integers(8, 40), most=st.integers(9, 100), data=st.data())
def test_heat_is_highest_where_the_answer_comes_from(
    side: int, most: int, data: st.DataObject
) -> None:
    row, column = data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))
    windows = explanation.windows(side, side, most)
    drops = []
    for window in windows:
        hidden = np.zeros((side, side), bool)
        hidden[window] = True
        drops.append(float(hidden[row, column]))
    heat = explanation.heat((side, side), windows, drops)
    assert heat[row, column] == heat.max() == 1


@given(text=PROSE, most=MOST)
def test_spans_hold_every_word_once_in_order(text: str, most: int) -> None:
    found = explanation.spans(text, most)
    assert len(found) <= most
    inside = [place for start, end in found for place in range(start, end)]
    assert len(set(inside)) == len(inside)
    assert inside == sorted(inside)
    assert all(text[place].isspace() for place in set(range(len(text))) - set(inside))
    assert [word for start, end in found for word in text[start:end].split()] == text.split()


@given(text=PROSE, most=MOST)
def test_what_is_silenced_keeps_its_length_and_the_rest(text: str, most: int) -> None:
    found = explanation.spans(text, most)
    for (start, end), copy in zip(found, explanation.silenced(text, found), strict=True):
        assert len(copy) == len(text)
        assert copy[:start] + copy[end:] == text[:start] + text[end:]
        assert set(copy[start:end]) == {explanation.HIDDEN}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 48), (300, 200)])
def test_an_overlay_is_red_for_and_blue_against(height: int, width: int) -> None:
    heat = np.zeros((height, width), np.float32)
    heat[:, : width // 4], heat[:, -(width // 4) :] = 0.5, -0.5
    png = explanation.overlay(np.full((height, width, 3), 128, np.uint8), heat)
    picture = np.asarray(Image.open(io.BytesIO(png)), int)
    assert min(picture.shape[:2]) >= min(256, explanation.SHOWN)
    assert picture.shape[0] * width == picture.shape[1] * height
    left, middle, right = picture[0, 0], picture[0, picture.shape[1] // 2], picture[0, -1]
    assert left[0] > 200 > left[2]
    assert right[2] > 200 > right[0]
    assert middle.tolist() == [128, 128, 128]


def test_an_overlay_of_nothing_is_the_picture() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    png = explanation.overlay(pixels, np.zeros((256, 256), np.float32))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)


@given(
    channels=st.integers(1, 70), height=st.integers(1, 9), width=st.integers(1, 9), data=st.data()
)
def test_a_mosaic_holds_every_map_at_its_place(
    channels: int, height: int, width: int, data: st.DataObject
) -> None:
    maps = np.random.default_rng(channels).normal(size=(channels, height, width)).astype(np.float32)
    drawn = np.asarray(Image.open(io.BytesIO(explanation.mosaic(maps))))
    place = data.draw(st.integers(0, min(channels, 64) - 1))
    row, column = divmod(place, 16)
    top, left = row * (height + 1), column * (width + 1)
    tile = drawn[top : top + height, left : left + width]
    shown = np.maximum(maps[:64], 0)
    assert np.abs(tile - 255 * np.sqrt(shown[place] / max(shown.max(), 1e-12))).max() <= 0.5 + 1e-3


def test_a_mosaic_of_large_maps_is_small() -> None:
    drawn = Image.open(io.BytesIO(explanation.mosaic(np.ones((1000, 300, 200), np.float32))))
    assert drawn.width <= 16 * 65
    assert drawn.height <= 4 * 65
