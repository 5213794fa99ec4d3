"""All-CNN-C at half width with batch norm, on CIFAR-10."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="all_cnn_cifar10",
    title="Ten kinds of things in small photographs",
    architecture="all_cnn",
    arguments={"labels": 10, "width": 0.5, "batch_norm": True, "dropout": (0.0, 0.0)},
    dataset="cifar10",
    preprocess=Preprocess(
        "image",
        (
            {"op": "decode"},
            {"op": "resize", "shorter": 32, "filter": "bilinear"},
            {"op": "center_crop", "size": [32, 32]},
        ),
    ),
    epochs=16,
    learning_rate=0.2,
    weight_decay=5e-4,
    augment=("flip", "crop"),
    notes=(
        "half of the paper's features per layer",
        "batch normalisation instead of dropout",
        "one-cycle schedule over 16 epochs instead of 350 epochs with steps",
        "mean and standard deviation per channel instead of ZCA whitening",
    ),
)
