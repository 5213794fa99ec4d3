"""Variations keep shape, label evidence and determinism."""

import numpy as np
import pytest

from convserve_models import augment, recipes

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
TEXTS = [
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
] * 64


@pytest.mark.parametrize("name", sorted(augment.AUGMENTATIONS))
def test_same_seed_same_batch_and_other_seed_another(name: str) -> None:
    inputs = TEXTS if name == "words" else IMAGES
    first, again, other = (
        augment.augment(inputs, [name], np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(first) == len(inputs)
    if name != "words":
        assert first.shape == IMAGES.shape
        assert first.dtype == np.uint8


def test_flip_mirrors_some_and_keeps_the_rest() -> None:
    flipped = augment.flip(IMAGES, np.random.default_rng(0))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == IMAGES).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 16 < mirrored.sum() < 48


def test_crop_shifts_by_at_most_the_padding() -> None:
    shifted = augment.crop(IMAGES, np.random.default_rng(0))
    padded = np.pad(IMAGES, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for image, frame in zip(shifted, padded, strict=True):
        windows = [frame[y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        assert any(np.array_equal(image, window) for window in windows)


def test_words_only_drops_and_reorders() -> None:
    for text in augment.words([*TEXTS, "single"], np.random.default_rng(0)):
        assert text
        assert set(text.split()) <= {*TEXTS[0].split(), "single"}


def test_recipes_use_known_variations() -> None:
    for name in recipes.names():
        assert set(recipes.load(name).augment) <= set(augment.AUGMENTATIONS)
