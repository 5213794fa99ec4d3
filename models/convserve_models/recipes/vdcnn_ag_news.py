"""VDCNN with nine convolutions, at half width and 320 characters, on AG News."""

from convserve_models.alphabet import SPACED
from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="vdcnn_ag_news",
    title="The topic of a news text, by nine convolutions over its letters",
    architecture="vdcnn",
    arguments={
        "labels": 4,
        "length": 320,
        "symbols": len(SPACED) + 1,
        "width": 0.5,
        "hidden": 512,
        "dropout": 0.4,
        "bias": False,
    },
    dataset="ag_news",
    preprocess=Preprocess.characters(320),
    epochs=24,
    optimiser="adamw",
    learning_rate=2e-3,
    weight_decay=0.05,
    label_smoothing=0.1,
    augment=("words",),
    notes=(
        "length 320 instead of 1024 characters, half of the paper's features, 512 instead of 2048 "
        "hidden units",
        "dropout of 0.4 on the hidden units, the paper has none",
        "padding and unknown characters share one symbol",
        "AdamW with a one-cycle schedule instead of SGD; words dropped and swapped at random",
    ),
)
