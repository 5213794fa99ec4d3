"""Variations keep shape, label evidence and determinism."""

from typing import Any

import numpy as np
import pytest
import torch

from convserve_models import augment, recipes

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8))
TEXTS = [
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
] * 64
SOUNDS = [np.random.default_rng(n).standard_normal(500 + n, np.float32) for n in range(64)]
CEPSTRA = [np.random.default_rng(n).standard_normal((90 + n, 13), np.float32) for n in range(64)]
SEQUENCES: dict[str, list[Any]] = {
    "words": TEXTS,
    "speed": SOUNDS,
    "hiss": SOUNDS,
    "voices": CEPSTRA,
    "gaps": CEPSTRA,
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", sorted(augment.OF_IMAGES))
def test_same_seed_same_images_and_other_seed_others(name: str) -> None:
    first, again, other = (augment.images(IMAGES, [name], seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.shape, first.dtype) == (IMAGES.shape, torch.uint8)


@pytest.mark.parametrize("name", sorted(augment.OF_SEQUENCES))
def test_same_seed_same_sequences_and_other_seed_others(name: str) -> None:
    first, again, other = (
        augment.sequences(SEQUENCES[name], [name], np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert len(first) == len(again) == len(other) == 64
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


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


def test_speed_changes_the_pitch_with_the_length() -> None:
    tone = np.sin(2 * np.pi * 0.05 * np.arange(2000)).astype(np.float32)
    for played in augment.speed([tone] * 9, np.random.default_rng(0)):
        assert 2000 / 1.16 < len(played) < 2000 / 0.84
        turns = np.count_nonzero(np.diff(np.sign(played)))
        assert turns == pytest.approx(200, abs=2)
    assert np.array_equal(augment._stretched(tone, 1.0), tone[:-1])


def test_hiss_is_at_most_as_loud_as_it_says() -> None:
    for before, after in zip(SOUNDS, augment.hiss(SOUNDS, np.random.default_rng(0)), strict=True):
        assert 0 < (after - before).std() < 0.25 * before.std()


def test_other_voices_say_the_same() -> None:
    """Nothing drawn leaves a spectrum as it is; drawn, a level stays a level."""
    np.testing.assert_allclose(augment._drawn(13, 1.0), np.eye(13), atol=1e-5)
    np.testing.assert_allclose(augment._drawn(13, 0.9)[:, 0], np.eye(13)[0], atol=1e-5)
    # A hump half way up the axis, read at places 1.1 times as far, comes earlier.
    places = (np.arange(200) + 0.5) / 200
    waves = np.cos(np.pi * np.arange(13)[:, None] * places)
    hump = 2 / 200 * waves @ np.exp(-(((places - 0.5) / 0.1) ** 2))
    moved = (augment._drawn(13, 1.1) @ hump) @ waves
    assert places[moved.argmax()] == pytest.approx(0.5 / 1.1, abs=0.02)


def test_gaps_leave_most_as_it_was() -> None:
    for before, after in zip(CEPSTRA, augment.gaps(CEPSTRA, np.random.default_rng(0)), strict=True):
        changed = (before != after).any(axis=1)
        assert changed.sum() <= 60
        assert after.shape == before.shape
        np.testing.assert_allclose(after[changed], before.mean(axis=0) + 0 * after[changed])


def test_recipes_use_known_variations() -> None:
    for name in recipes.names():
        recipe = recipes.load(name)
        image = recipe.preprocess.modality == "image"
        assert set(recipe.augment) <= set(augment.OF_IMAGES if image else augment.OF_SEQUENCES)
