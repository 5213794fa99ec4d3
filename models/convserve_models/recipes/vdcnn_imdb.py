"""VDCNN with nine convolutions, at half width, on IMDB."""

from convserve_models.alphabet import SPACED
from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="vdcnn_imdb",
    title="Whether a film review praises, by nine convolutions over its letters",
    architecture="vdcnn",
    arguments={
        "labels": 2,
        "length": 1024,
        "symbols": len(SPACED) + 1,
        "width": 0.5,
        "hidden": 512,
        "dropout": 0.4,
        "bias": False,
    },
    dataset="imdb",
    preprocess=Preprocess(
        "text",
        (
            {"op": "lowercase"},
            {"op": "characters", "alphabet": SPACED, "length": 1024},
        ),
    ),
    epochs=8,
    optimiser="adamw",
    learning_rate=1e-3,
    weight_decay=0.05,
    label_smoothing=0.1,
    augment=("words",),
    notes=(
        "not a dataset of the paper; half of all reviews are longer than the 1024 characters read",
        "half of the paper's features, 512 instead of 2048 hidden units",
        "dropout of 0.4 on the hidden units, the paper has none",
        "padding and unknown characters share one symbol",
        "AdamW with a one-cycle schedule instead of SGD; words dropped and swapped at random",
    ),
)
