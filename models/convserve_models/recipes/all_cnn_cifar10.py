"""All-CNN-C with batch norm, on CIFAR-10."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="all_cnn_cifar10",
    title="Ten kinds of things in small photographs",
    architecture="all_cnn",
    arguments={"labels": 10, "batch_norm": True, "dropout": (0.0, 0.0)},
    dataset="cifar10",
    preprocess=Preprocess.square(32),
    epochs=80,
    batch_size=512,
    learning_rate=0.4,
    weight_decay=5e-4,
    label_smoothing=0.1,
    augment=("flip", "crop", "cutout"),
    notes=(
        "batch normalisation instead of dropout",
        "one-cycle schedule over 80 epochs instead of 350 epochs with steps",
        "mean and standard deviation per channel instead of ZCA whitening",
        "label smoothing 0.1, cutout of 12 pixels",
    ),
)
