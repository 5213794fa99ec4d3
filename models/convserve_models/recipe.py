"""Everything needed to train a network again, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Byte work before the graph, in the words of the artifact's schema."""

    modality: Literal["image", "text"]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network, its data and its training budget.

    `id` names the artifact, the URL and the recipe's own module: `<architecture>_<dataset>`.
    """

    id: str
    title: str
    architecture: str
    arguments: Mapping[str, Any]
    dataset: str
    preprocess: Preprocess
    epochs: int
    learning_rate: float
    weight_decay: float
    task: Literal["classification"] = "classification"
    optimiser: Literal["sgd", "adamw"] = "sgd"
    batch_size: int = 128
    warm_up: float = 0.2
    """Share of all steps in which the one-cycle schedule still rises."""
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    held_out: int = 2000
    """Training samples never trained on; temperature and conformal threshold come from them."""
    seed: int = 0
    max_batch_size: int = 32
    notes: tuple[str, ...] = field(default=())
    """Deviations from the paper, printed on the artifact's card."""
