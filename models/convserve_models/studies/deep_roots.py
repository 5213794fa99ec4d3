"""What do filter groups cost? Ioannou et al., 1605.06489, table 2: Network in Network, root-k."""

from __future__ import annotations

from dataclasses import replace

from convserve_models.recipes.deep_roots_cifar10 import RECIPE
from convserve_models.studies import Member, Study

ACCURACIES = {1: 0.9211, 2: 0.9209, 4: 0.9202, 8: 0.9215, 16: 0.9167}
"""The paper's test accuracies by the groups of conv2a."""


def _member(groups: int) -> Member:
    arguments = {**RECIPE.arguments, "groups": (groups, max(1, groups // 2))}
    other = replace(RECIPE, id=f"deep_roots_{groups}", arguments=arguments, notes=())
    recipe = RECIPE if arguments == RECIPE.arguments else other
    name = f"root-{groups}" if groups > 1 else "no groups"
    return Member(recipe, name, "root" if groups > 1 else "no groups", ACCURACIES[groups])


STUDY = Study(
    title="Deep Roots: accuracy against parameters and multiplications",
    question="CIFAR-10, half width, batch norm, flips, windows of 24×24 pixels.",
    members=tuple(map(_member, ACCURACIES)),
)
