"""One recipe per artifact: `recipes/<artifact id>.py` holds `RECIPE`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from convserve_models.recipe import Recipe


def names() -> list[str]:
    """The ids of all recipes, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def load(name: str) -> Recipe:
    """Return a recipe; raises `KeyError` that lists the known ones."""
    if name not in names():
        raise KeyError(f"no recipe {name!r}; known: {', '.join(names())}")
    recipe: Recipe = import_module(f"{__name__}.{name}").RECIPE
    return recipe
