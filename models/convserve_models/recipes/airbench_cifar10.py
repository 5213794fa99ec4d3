"""Airbench's larger form (three convolutions a stage, shortcuts), narrowed, on CIFAR-10."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="airbench_cifar10",
    title="Ten kinds of things in small photographs",
    architecture="airbench",
    arguments={"labels": 10, "widths": (96, 320, 320), "depth": 3},
    dataset="cifar10",
    preprocess=Preprocess.square(32),
    epochs=120,
    batch_size=512,
    learning_rate=0.4,
    weight_decay=5e-4,
    label_smoothing=0.1,
    augment=("flip", "crop", "cutout"),
    notes=(
        "stages of 96, 320 and 320 features instead of 128, 512 and 512",
        "the first layer is learned instead of whitening",
        "batch normalisation with scales, before the pooling",
        "120 epochs of a one-cycle schedule, cutout of 12 pixels, random instead of alternating "
        "flips, no averaging of weights, no test-time augmentation",
    ),
)
