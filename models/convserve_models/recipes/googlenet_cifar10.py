"""GoogLeNet at half width with batch norm and a stem for small images, on CIFAR-10."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="googlenet_cifar10",
    title="Ten kinds of things in small photographs",
    architecture="googlenet",
    arguments={"labels": 10, "width": 0.5, "small": True, "batch_norm": True, "dropout": 0.2},
    dataset="cifar10",
    preprocess=Preprocess.square(32),
    epochs=50,
    batch_size=512,
    learning_rate=0.4,
    weight_decay=5e-4,
    label_smoothing=0.1,
    augment=("flip", "crop", "cutout"),
    notes=(
        "half of the paper's features per layer",
        "a 3×3 stem without pooling for 32×32 images",
        "batch normalisation instead of local response normalisation",
        "no auxiliary heads",
        "one-cycle schedule over 50 epochs",
    ),
)
