"""Variations keep shape, label evidence and determinism."""

import itertools
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


def draw(seed: int, epoch: int = 0) -> augment.Draw:
    return augment.Draw(torch.Generator().manual_seed(seed), torch.arange(64), epoch)


@pytest.mark.parametrize("name", sorted(augment.OF_IMAGES))
def test_same_seed_same_images_and_other_seed_others(name: str) -> None:
    draws = (draw(1), draw(1), draw(2, epoch=1))
    first, again, other = (augment.images(IMAGES, [name], each) for each in draws)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    side = 3 * IMAGES.shape[1] // 4 if name == "window" else IMAGES.shape[1]
    assert (first.shape, first.dtype) == ((len(IMAGES), side, side, 3), torch.uint8)


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
    flipped = augment.flip(IMAGES, draw(0))
    kept = (flipped == IMAGES).flatten(1).all(1)
    assert ((flipped == IMAGES.flip(2)).flatten(1).all(1) ^ kept).all()
    assert 16 < kept.sum() < 48


def test_an_alternating_flip_shows_every_image_both_ways_in_two_epochs() -> None:
    even, odd, later = (augment.alternating_flip(IMAGES, draw(0, epoch)) for epoch in range(3))
    kept = (even == IMAGES).flatten(1).all(1)
    assert 16 < kept.sum() < 48
    assert torch.equal(odd, even.flip(2))
    assert torch.equal(later, even)


@pytest.mark.parametrize(("name", "most"), [("crop", 4), ("nudge", 2)])
def test_a_shift_goes_at_most_so_far_and_shows_the_reflection(name: str, most: int) -> None:
    shifted = augment.OF_IMAGES[name](IMAGES, draw(0)).numpy()
    sides = (most, most)
    padded = np.pad(IMAGES.numpy(), ((0, 0), sides, sides, (0, 0)), mode="reflect")
    places = list(itertools.product(range(2 * most + 1), repeat=2))
    found = set()
    for image, frame in zip(shifted, padded, strict=True):
        at = [(y, x) for y, x in places if np.array_equal(image, frame[y : y + 32, x : x + 32])]
        assert at
        found.update(at)
    assert len(found) > len(places) // 3


def test_cutout_covers_at_most_a_square_with_the_mean_colour() -> None:
    covered = augment.cutout(IMAGES, draw(0))
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
