"""The small character network at half width and 366 characters, on AG News."""

from convserve_models.alphabet import CREPE
from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="char_cnn_ag_news",
    title="The topic of a news text, letter by letter",
    architecture="char_cnn",
    arguments={"labels": 4, "length": 366, "features": 128, "hidden": 512, "batch_norm": True},
    dataset="ag_news",
    preprocess=Preprocess(
        "text",
        (
            {"op": "lowercase"},
            {"op": "characters", "alphabet": CREPE, "length": 366, "reverse": True},
        ),
    ),
    epochs=16,
    optimiser="adamw",
    learning_rate=2e-3,
    weight_decay=0.02,
    label_smoothing=0.1,
    augment=("words",),
    notes=(
        "length 366 instead of 1014 characters, half of the paper's features and hidden units",
        "batch normalisation after each convolution",
        "AdamW with a one-cycle schedule instead of SGD with steps; words dropped and swapped at "
        "random instead of the thesaurus",
    ),
)
