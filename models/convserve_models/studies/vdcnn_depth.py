"""How deep, and with shortcuts? Conneau et al., 1606.01781: 29 and 49 convolutions over letters."""

from __future__ import annotations

from dataclasses import replace

from convserve_models.recipe import Preprocess
from convserve_models.recipes.vdcnn_ag_news import RECIPE
from convserve_models.studies import Member, Study

LENGTH, EPOCHS = 128, 10
ERROR = 8.73
"""The paper's test error in percent, of 29 with max-pooling and no shortcuts."""


def _member(depth: int, shortcuts: bool) -> Member:
    small = {"length": LENGTH, "width": 0.25, "hidden": 128}
    recipe = replace(
        RECIPE,
        id=f"vdcnn_{depth}_{'shortcuts' if shortcuts else 'plain'}",
        arguments={**RECIPE.arguments, **small, "depth": depth, "shortcuts": shortcuts},
        preprocess=Preprocess.characters(LENGTH),
        epochs=EPOCHS,
        notes=(),
    )
    group = "shortcuts" if shortcuts else "no shortcuts"
    paper = 1 - ERROR / 100 if depth == 29 and not shortcuts else None
    return Member(recipe, f"{depth}, {group}", group, paper)


STUDY = Study(
    title="VDCNN: depth and shortcuts",
    question=f"AG News, a quarter of the width, the first {LENGTH} characters.",
    members=tuple(_member(depth, shortcuts) for depth in (29, 49) for shortcuts in (False, True)),
)
