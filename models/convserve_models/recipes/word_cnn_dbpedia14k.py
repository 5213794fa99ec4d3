"""Filters over hashed words and the evidence of words and pairs, on the DBpedia sample."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="word_cnn_dbpedia14k",
    title="What kind of thing an encyclopedia describes, by its words and what stands together",
    architecture="word_cnn",
    arguments={
        "labels": 14,
        "rows": 16384,
        "columns": 96,
        "features": 96,
        "dropped_words": 0.3,
        "ngrams": 131072,
    },
    dataset="dbpedia14k",
    preprocess=Preprocess.words(128),
    epochs=6,
    optimiser="adamw",
    learning_rate=3e-3,
    weight_decay=0.05,
    batch_size=64,
    label_smoothing=0.1,
    held_out=1000,
    half=True,
    notes=(
        "filters of widths 2, 3 and 4 instead of 3, 4 and 5, 96 of each; words are hashed into "
        "pairs of rows instead of having pretrained vectors; the columns' maximum and scaled sum "
        "are classified too",
        "a logistic regression on tf-idf of hashed words and pairs, fitted before the training, "
        "adds its logits inside the graph: a gather and a sum over 131,072 rows",
        "trained on a CPU for 6 epochs; weights are stored as float16",
    ),
)
