"""Is a QRNN as good as an LSTM? Bradbury et al., 1611.01576, §3: layers of the same width."""

from __future__ import annotations

from dataclasses import replace

from convserve_models.recipes.qrnn_ag_news import RECIPE
from convserve_models.studies import Member, Study

POOLINGS = {"LSTM": "lstm", "QRNN, fo": "fo", "QRNN, f": "f"}


def _member(name: str) -> Member:
    small = {"features": 64, "layers": 2, "zoneout": 0.0}
    arguments = {**RECIPE.arguments, **small, "pooling": POOLINGS[name]}
    recipe = replace(RECIPE, id=f"recurrent_{POOLINGS[name]}", arguments=arguments, notes=())
    return Member(recipe, name, name.partition(",")[0])


STUDY = Study(
    title="QRNN and LSTM of the same width",
    question="AG News, two densely connected layers of 64 features in both directions.",
    members=tuple(map(_member, POOLINGS)),
)
