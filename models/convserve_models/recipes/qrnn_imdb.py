"""A QRNN that has learned to read first, on IMDB."""

from convserve_models.recipe import Preprocess, Recipe
from convserve_models.recipes.word_model_english import READER

RECIPE = Recipe(
    id="qrnn_imdb",
    title="Whether a film review praises, word by word in both directions",
    architecture="qrnn",
    arguments={
        **READER,
        "labels": 2,
        "hidden": 128,
        "dropout": 0.5,
        "zoneout": 0.1,
        "dropped_words": 0.15,
    },
    dataset="imdb",
    preprocess=Preprocess.words(512),
    start="word_model_english",
    epochs=8,
    optimiser="adamw",
    learning_rate=1e-3,
    weight_decay=0.05,
    warm_up=0.2,
    batch_size=64,
    label_smoothing=0.1,
    held_out=2000,
    notes=(
        "three densely connected layers of 192 features in both directions, whose maximum and mean "
        "are classified; the paper has four of 256 in one direction and classifies the last state",
        "words are hashed into pairs of rows instead of having pretrained vectors",
        "trained to predict neighbouring words on the training texts of ag_news, dbpedia14k and "
        "imdb, without their labels and with the held-out ones among them, before it was trained "
        "to classify",
    ),
)
