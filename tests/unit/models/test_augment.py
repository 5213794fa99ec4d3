"""Variations keep shape, label evidence and determinism."""

import numpy as np
import pytest
import torch

from convserve_models import augment, recipes

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8))
TEXTS = [
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
] * 64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", sorted(augment.OF_IMAGES))
def test_same_seed_same_images_and_other_seed_others(name: str) -> None:
    first, again, other = (augment.images(IMAGES, [name], seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.shape, first.dtype) == (IMAGES.shape, torch.uint8)


@pytest.mark.parametrize("name", sorted(augment.OF_TEXTS))
def test_same_seed_same_texts_and_other_seed_others(name: str) -> None:
    first, again, other = (
        augment.texts(TEXTS, [name], np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == len(TEXTS)


def test_flip_mirrors_some_and_keeps_the_rest() -> None:
    flipped = augment.flip(IMAGES, seeded(0))
    kept = (flipped == IMAGES).flatten(1).all(1)
    assert ((flipped == IMAGES.flip(2)).flatten(1).all(1) ^ kept).all()
    assert 16 < kept.sum() < 48


def test_crop_shifts_by_at_most_four_pixels_of_reflection() -> None:
    shifted = augment.crop(IMAGES, seeded(0)).numpy()
    padded = np.pad(IMAGES.numpy(), ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    found = set()
    for image, frame in zip(shifted, padded, strict=True):
        windows = {(y, x): frame[y : y + 32, x : x + 32] for y in range(9) for x in range(9)}
        found |= {place for place, window in windows.items() if np.array_equal(image, window)}
        assert any(np.array_equal(image, window) for window in windows.values())
    assert len(found) > 30


def test_cutout_covers_at_most_a_square_with_the_mean_colour() -> None:
    covered = augment.cutout(IMAGES, seeded(0))
    mean = IMAGES.float().mean((0, 1, 2)).round().to(torch.uint8)
    changed = (covered != IMAGES).any(3)
    assert (covered[changed] == mean).all()
    rows, columns = changed.any(2).sum(1), changed.any(1).sum(1)
    assert ((rows >= 5) & (rows <= 12) & (columns >= 5) & (columns <= 12)).all()
    assert rows.max() == columns.max() == 12


def test_words_only_drops_and_reorders() -> None:
    for text in augment.words([*TEXTS, "single"], np.random.default_rng(0)):
        assert text
        assert set(text.split()) <= {*TEXTS[0].split(), "single"}


def test_recipes_use_known_variations() -> None:
    known = {"image": set(augment.OF_IMAGES), "text": set(augment.OF_TEXTS)}
    for name in recipes.names():
        recipe = recipes.load(name)
        assert set(recipe.augment) <= known[recipe.preprocess.modality]
