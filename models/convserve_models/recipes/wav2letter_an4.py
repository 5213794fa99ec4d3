"""Wav2Letter over Sphinx's cepstra, at half of the paper's width, on AN4."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="wav2letter_an4",
    title="Names, numbers and spelled words, letter by letter, from Sphinx's cepstra",
    architecture="wav2letter",
    arguments={
        "labels": 28,
        "front": "frames",
        "features": 128,
        "context": 256,
        "batch_norm": True,
        "dropout": 0.1,
    },
    dataset="an4_mfcc",
    preprocess=Preprocess(
        "cepstra",
        (
            {"op": "frames", "coefficients": 13},
            {"op": "pad", "lengths": [200, 400, 800, 1600, 3200]},
        ),
    ),
    task="transcription",
    epochs=60,
    optimiser="adamw",
    learning_rate=2e-3,
    weight_decay=0.05,
    batch_size=8,
    augment=("speed", "voices", "gaps"),
    held_out=50,
    max_batch_size=8,
    notes=(
        "not a dataset of the paper; takes Sphinx's cepstra, of which the dataset has no sound",
        "128 features instead of 250, and 256 instead of 2000 in the last two hidden layers",
        "batch normalisation after each convolution, dropout of 0.1",
        "CTC instead of the paper's criterion (ASG); AdamW with a one-cycle schedule; "
        "cepstra played up to 15 % faster or slower, of other voices, with gaps",
    ),
)
