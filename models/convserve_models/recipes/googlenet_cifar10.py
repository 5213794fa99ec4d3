"""GoogLeNet at a quarter of the paper's width, with a stem for small images, on CIFAR-10."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="googlenet_cifar10",
    title="Ten kinds of things in small photographs",
    architecture="googlenet",
    arguments={"labels": 10, "width": 0.25, "small": True, "batch_norm": True, "dropout": 0.1},
    dataset="cifar10",
    preprocess=Preprocess.square(32),
    epochs=8,
    batch_size=128,
    learning_rate=0.2,
    weight_decay=5e-4,
    augment=("flip", "window"),
    notes=(
        "a quarter of the paper's features per layer",
        "a 3×3 stem without pooling for 32×32 images",
        "batch normalisation instead of local response normalisation",
        "no auxiliary heads",
        "trained on windows of 24×24 pixels for 8 epochs with a one-cycle schedule, "
        "asked about whole images",
    ),
)
