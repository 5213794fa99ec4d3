"""VDCNN with nine convolutions, at half width and 384 characters, on the DBpedia sample."""

from convserve_models.alphabet import SPACED
from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="vdcnn_dbpedia14k",
    title="What kind of thing an encyclopedia describes, by nine convolutions over its letters",
    architecture="vdcnn",
    arguments={
        "labels": 14,
        "length": 384,
        "symbols": len(SPACED) + 1,
        "width": 0.5,
        "halving": "convolution",
        "hidden": 512,
        "dropout": 0.4,
        "bias": False,
    },
    dataset="dbpedia14k",
    preprocess=Preprocess(
        "text",
        (
            {"op": "lowercase"},
            {"op": "characters", "alphabet": SPACED, "length": 384},
        ),
    ),
    epochs=20,
    optimiser="adamw",
    learning_rate=1e-3,
    weight_decay=0.05,
    batch_size=64,
    label_smoothing=0.1,
    augment=("words",),
    held_out=1000,
    notes=(
        "length 384 instead of 1024 characters, half of the paper's features, 512 instead of 2048 "
        "hidden units",
        "dropout of 0.4 on the hidden units, the paper has none",
        "padding and unknown characters share one symbol",
        "AdamW with a one-cycle schedule instead of SGD; words dropped and swapped at random",
    ),
)
