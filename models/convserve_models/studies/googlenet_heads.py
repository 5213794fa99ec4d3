"""Do auxiliary heads help? Szegedy et al., 1409.4842, §5: two side exits while it trains."""

from __future__ import annotations

from dataclasses import replace

from convserve_models.recipes.googlenet_cifar10 import RECIPE
from convserve_models.studies import Member, Study

EPOCHS = 3
HEADS = ("inception.4a", "inception.4d")


def _member(name: str, *heads: str) -> Member:
    recipe = replace(
        RECIPE,
        id=f"googlenet_{name.replace(' ', '_')}",
        arguments={**RECIPE.arguments, "width": 0.0625},
        auxiliary=heads,
        epochs=EPOCHS,
        notes=(),
    )
    return Member(recipe, name, name)


STUDY = Study(
    title="GoogLeNet's auxiliary heads",
    question="CIFAR-10, a sixteenth of the width, batch norm, flips, windows of 24×24 pixels; "
    "the heads end with the training.",
    members=(_member("no heads"), _member("two heads", *HEADS)),
)
