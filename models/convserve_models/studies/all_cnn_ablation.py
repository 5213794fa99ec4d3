"""Is pooling needed? Springenberg et al., 1412.6806: three networks, four ways to halve."""

from __future__ import annotations

from dataclasses import replace

from convserve_models.recipes.all_cnn_cifar10 import RECIPE
from convserve_models.studies import Member, Study

EPOCHS = 3
FORMS = {"pool": "", "stride": "Strided-CNN-", "conv_pool": "ConvPool-CNN-", "conv": "All-CNN-"}
ERRORS = {
    "A": {"pool": 12.47, "stride": 13.46, "conv_pool": 10.21, "conv": 10.30},
    "B": {"pool": 10.20, "stride": 10.98, "conv_pool": 9.33, "conv": 9.10},
    "C": {"pool": 9.74, "stride": 10.19, "conv_pool": 9.31, "conv": 9.08},
}
"""The paper's test errors in percent, without augmentation."""


def _member(base: str, pooling: str) -> Member:
    recipe = replace(
        RECIPE,
        id=f"all_cnn_{base.lower()}_{pooling}",
        arguments={**RECIPE.arguments, "width": 0.25, "base": base, "pooling": pooling},
        epochs=EPOCHS,
        batch_size=128,
        learning_rate=0.2,
        label_smoothing=0.0,
        augment=("flip", "window"),
        notes=(),
    )
    name = (FORMS[pooling] or "Model ") + base
    return Member(recipe, name, pooling, 1 - ERRORS[base][pooling] / 100)


STUDY = Study(
    title="All-CNN's ablation: is pooling needed?",
    question="CIFAR-10, a quarter of the width, batch norm, flips, windows of 24×24 pixels.",
    members=tuple(_member(base, pooling) for base in ERRORS for pooling in FORMS),
)
