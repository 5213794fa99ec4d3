"""A QRNN of 128 features over hashed words, on AG News."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="qrnn_ag_news",
    title="The topic of a news text, word by word in both directions",
    architecture="qrnn",
    arguments={
        "labels": 4,
        "rows": 16384,
        "columns": 96,
        "features": 128,
        "layers": 3,
        "hidden": 128,
        "dropout": 0.5,
        "zoneout": 0.1,
        "dropped_words": 0.3,
    },
    dataset="ag_news",
    preprocess=Preprocess.words(128),
    epochs=2,
    optimiser="adamw",
    learning_rate=3e-3,
    weight_decay=0.1,
    warm_up=0.4,
    batch_size=64,
    label_smoothing=0.1,
    held_out=2000,
    half=True,
    notes=(
        "three densely connected layers of 128 features in both directions, whose maximum and mean "
        "are classified; the paper has four of 256 in one direction and classifies the last state",
        "words are hashed into pairs of rows instead of having pretrained vectors",
        "trained on a CPU for 2 epochs; weights are stored as float16",
    ),
)
