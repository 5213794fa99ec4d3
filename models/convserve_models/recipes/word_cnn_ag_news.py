"""Filters over hashed words and the evidence of words and pairs, on AG News."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="word_cnn_ag_news",
    title="The topic of a news text, by its words and what stands together",
    architecture="word_cnn",
    arguments={
        "labels": 4,
        "rows": 16384,
        "columns": 96,
        "features": 96,
        "dropped_words": 0.3,
        "ngrams": 262144,
    },
    dataset="ag_news",
    preprocess=Preprocess.words(128),
    epochs=4,
    optimiser="adamw",
    learning_rate=3e-3,
    weight_decay=0.05,
    batch_size=64,
    label_smoothing=0.1,
    held_out=2000,
    half=True,
    notes=(
        "filters of widths 2, 3 and 4 instead of 3, 4 and 5, 96 of each; words are hashed into "
        "pairs of rows instead of having pretrained vectors; the columns' maximum and scaled sum "
        "are classified too",
        "a logistic regression on tf-idf of hashed words and pairs, fitted before the training, "
        "adds its logits inside the graph: a gather and a sum over its rows",
        "trained on a CPU for a few epochs; weights are stored as float16",
    ),
)
