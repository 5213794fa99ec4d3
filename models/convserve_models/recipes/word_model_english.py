"""Reading before classifying: the QRNN's language model on the texts of three datasets."""

from convserve_models.recipe import Preprocess, Recipe

READER = {"rows": 16384, "columns": 192, "features": 192, "layers": 3, "dense": True}

RECIPE = Recipe(
    id="word_model_english",
    title="How surprising each word of an English text is",
    architecture="word_model",
    arguments={**READER, "dropout": 0.15, "dropped_words": 0.1},
    dataset="english",
    preprocess=Preprocess.words(128),
    task="reading",
    epochs=22,
    optimiser="adamw",
    learning_rate=3e-3,
    weight_decay=0.02,
    warm_up=0.1,
    batch_size=256,
    held_out=1000,
)
