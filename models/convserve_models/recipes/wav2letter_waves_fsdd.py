"""Wav2Letter over the raw wave, at two fifths of the paper's width, on strings of digits."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="wav2letter_waves_fsdd",
    title="Spoken digits, letter by letter, from the raw wave",
    architecture="wav2letter",
    arguments={
        "labels": 17,
        "front": "waves",
        "rate": 8000,
        "window": 200,
        "hop": 80,
        "features": 96,
        "context": 192,
        "batch_norm": True,
        "dropout": 0.1,
    },
    dataset="fsdd",
    preprocess=Preprocess(
        "audio",
        (
            {"op": "pcm"},
            {"op": "resample", "rate": 8000},
            {"op": "pad", "lengths": [8000, 16000, 32000, 64000, 128000, 256000]},
        ),
    ),
    task="transcription",
    epochs=14,
    optimiser="adamw",
    learning_rate=2e-3,
    weight_decay=0.01,
    batch_size=32,
    augment=("speed", "hiss"),
    held_out=500,
    max_batch_size=8,
    notes=(
        "not a dataset of the paper; 8 kHz instead of 16, the same six speakers in every split",
        "96 features instead of 250, and 192 instead of 2000 in the last two hidden layers",
        "batch normalisation after each convolution, dropout of 0.1",
        "CTC instead of the paper's criterion (ASG); AdamW with a one-cycle schedule; "
        "sounds played up to 15 % faster or slower, with noise",
    ),
)
