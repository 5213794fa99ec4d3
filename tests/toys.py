"""Small real datasets and recipes, made on the spot, for tests of the training side."""

from __future__ import annotations

import numpy as np

from convserve_models.alphabet import CREPE
from convserve_models.data import Card, Dataset, Split
from convserve_models.recipe import Preprocess, Recipe

COLOURS = ("red", "green", "blue")
WORDS = ("goal match team", "shares profit bank")


def images(n: int = 96) -> Dataset:
    """Noisy 32×32 pictures, each with one strong channel: the label."""
    random = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int64) % len(COLOURS)
    pixels = random.integers(0, 120, (n, 32, 32, 3), np.uint8)
    pixels[np.arange(n), :, :, labels] += 100
    split = Split(pixels, labels)
    card = Card("toy", "made for this test", "Apache-2.0", COLOURS, (0.4,) * 3, (0.25,) * 3)
    return Dataset(card, "packed", split, split.take(np.arange(n // 2)))


def texts(n: int = 96) -> Dataset:
    """Word salads of two topics."""
    random = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int64) % len(WORDS)
    salads = [" ".join(random.choice(WORDS[label].split(), 12)) for label in labels]
    split = Split(salads, labels)
    card = Card("toy", "made for this test", "Apache-2.0", ("sports", "business"))
    return Dataset(card, "packed", split, split.take(np.arange(n // 2)))


IMAGE_RECIPE = Recipe(
    id="all_cnn_toy",
    title="Three colours",
    architecture="all_cnn",
    arguments={"labels": 3, "width": 0.125, "batch_norm": True, "dropout": (0.0, 0.0)},
    dataset="toy",
    preprocess=Preprocess(
        "image",
        (
            {"op": "decode"},
            {"op": "resize", "shorter": 32},
            {"op": "center_crop", "size": [32, 32]},
        ),
    ),
    epochs=8,
    batch_size=16,
    learning_rate=0.1,
    weight_decay=5e-4,
    augment=("flip", "crop"),
    held_out=24,
)
TEXT_RECIPE = Recipe(
    id="char_cnn_toy",
    title="Two topics",
    architecture="char_cnn",
    arguments={
        "labels": 2,
        "length": 123,
        "features": 8,
        "hidden": 16,
        "batch_norm": True,
        "dropout": 0.0,
    },
    dataset="toy",
    preprocess=Preprocess(
        "text",
        (
            {"op": "lowercase"},
            {"op": "characters", "alphabet": CREPE, "length": 123, "reverse": True},
        ),
    ),
    epochs=8,
    batch_size=16,
    optimiser="adamw",
    learning_rate=1e-2,
    weight_decay=0.01,
    augment=("words",),
    held_out=24,
)
TOYS = {"image": (IMAGE_RECIPE, images), "text": (TEXT_RECIPE, texts)}
