"""Reproducible experiments. `STUDIES` is a table of strings, resolved on use.

The module of a study holds its title, its recipes and what is asked of them; `report` makes the
table and the plot from the checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from convserve_models.recipe import Recipe

STUDIES = {
    "all_cnn_ablation": "convserve_models.studies.all_cnn_ablation",
    "deep_roots": "convserve_models.studies.deep_roots",
    "googlenet_heads": "convserve_models.studies.googlenet_heads",
    "qrnn": "convserve_models.studies.qrnn",
    "vdcnn_depth": "convserve_models.studies.vdcnn_depth",
    "wav2letter": "convserve_models.studies.wav2letter",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A network of a study: its recipe, its name in the paper and the paper's own figure."""

    recipe: Recipe
    name: str
    group: str
    paper: float | None = None
    """Test accuracy that the paper prints, if on the same data, with its own longer training."""


@dataclass(frozen=True, slots=True)
class Study:
    """Several networks, trained alike and compared."""

    title: str
    question: str
    members: tuple[Member, ...]

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of a member; raises `KeyError` that lists them."""
        recipes = {member.recipe.id: member.recipe for member in self.members}
        if name not in recipes:
            raise KeyError(f"no member {name!r} of the study; known: {', '.join(recipes)}")
        return recipes[name]


def load(name: str) -> Study:
    """Return a study; raises `KeyError` that lists the known ones."""
    if name not in STUDIES:
        raise KeyError(f"no study {name!r}; known: {', '.join(sorted(STUDIES))}")
    study: Study = import_module(STUDIES[name]).STUDY
    return study
