from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convserve.preprocess import resize
from convserve.preprocess.resize import KERNELS, resized
from tests.artifacts import assert_rounded_alike

WORDS = [*KERNELS, "box", "nearest"]
Size = tuple[int, int]


def noise(size: Size, contrast: int = 255) -> Image.Image:
    """Noise of so many steps from black to white: of one, bicubic kernels overshoot at edges."""
    width, height = size
    levels = np.random.default_rng(width * height).integers(0, contrast + 1, (height, width, 3))
    return Image.fromarray((levels * 255 // contrast).astype(np.uint8))


def by_pillow(image: Image.Image, size: Size, kernel: str) -> Image.Image:
    word = Image.Resampling[kernel.upper()]
    return image.resize((size[0], image.height), word).resize(size, word)


SIZES = st.tuples(st.integers(1, 120), st.integers(1, 120))


@settings(max_examples=300, deadline=None)
@given(source=SIZES, size=SIZES, kernel=st.sampled_from(WORDS), contrast=st.sampled_from([1, 255]))
def test_it_differs_from_pillow_by_rounding(
    source: Size, size: Size, kernel: str, contrast: int
) -> None:
    image = noise(source, contrast)
    found, expected = resized(image, size, kernel), by_pillow(image, size, kernel)
    assert (found.mode, found.size) == ("RGB", size)
    assert_rounded_alike(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("kernel", KERNELS)
def test_hardly_any_pixel_is_rounded_otherwise(kernel: str) -> None:
    image = noise((448, 300))
    found, expected = resized(image, (224, 150), kernel), by_pillow(image, (224, 150), kernel)
    assert (np.asarray(found) != np.asarray(expected)).mean() < 0.02


@pytest.mark.parametrize("kernel", WORDS)
def test_pillow_does_it_where_there_is_no_wheel(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resize, "vectors", None)
    image = noise((50, 40))
    found, expected = resized(image, (20, 30), kernel), by_pillow(image, (20, 30), kernel)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("kernel", WORDS)
def test_large_photos_are_resized_as_pillow_does(kernel: str) -> None:
    image = noise((1250, 800))
    found, expected = resized(image, (350, 224), kernel), by_pillow(image, (350, 224), kernel)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_threads_do_not_disturb_each_other() -> None:
    images = [noise((200 + n, 150)) for n in range(8)]
    alone = [np.asarray(resized(image, (60, 50), "bicubic")) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: resized(image, (60, 50), "bicubic"), images * 20))
    for place, image in enumerate(together):
        np.testing.assert_array_equal(np.asarray(image), alone[place % len(images)])
