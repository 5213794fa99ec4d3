"""Network in Network with root-8 modules, on CIFAR-10."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="deep_roots_cifar10",
    title="Ten kinds of things in small photographs",
    architecture="deep_roots",
    arguments={"labels": 10, "groups": (8, 4)},
    dataset="cifar10",
    preprocess=Preprocess.square(32),
    epochs=30,
    batch_size=512,
    learning_rate=0.4,
    weight_decay=5e-4,
    augment=("flip", "crop"),
    notes=(
        "one-cycle schedule over 30 epochs",
        "mean and standard deviation per channel instead of ZCA whitening",
    ),
)
