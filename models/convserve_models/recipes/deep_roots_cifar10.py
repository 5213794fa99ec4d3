"""Network in Network with root-8 modules, at half width, on CIFAR-10."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="deep_roots_cifar10",
    title="Ten kinds of things in small photographs",
    architecture="deep_roots",
    arguments={"labels": 10, "width": 0.5, "groups": (8, 4)},
    dataset="cifar10",
    preprocess=Preprocess.square(32),
    epochs=8,
    batch_size=128,
    learning_rate=0.2,
    weight_decay=5e-4,
    augment=("flip", "window"),
    notes=(
        "half of the paper's features per layer",
        "trained on windows of 24×24 pixels for 8 epochs with a one-cycle schedule, "
        "asked about whole images",
        "mean and standard deviation per channel instead of ZCA whitening",
    ),
)
