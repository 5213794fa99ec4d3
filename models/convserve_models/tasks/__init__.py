"""What networks are trained for: one file each. `TASKS` is a table of strings, resolved on use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from convserve_models.tasks.classification import Metric

TASKS = {
    "classification": "convserve_models.tasks.classification",
    "transcription": "convserve_models.tasks.transcription",
    "asg": "convserve_models.tasks.asg",
    "reading": "convserve_models.tasks.reading",
}


class Task(Protocol):
    """What the module of a task offers to the training loop."""

    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Return the scalar that training makes small, for a batch."""

    def figures(
        self, outputs: NDArray[np.float32], labels: NDArray[np.int64], split: str
    ) -> list[Metric]:
        """Return what the network is judged by, from its raw outputs on a split."""


def task_of(name: str) -> Task:
    """Return the module of a task. Raises `KeyError` for an unknown name."""
    return cast(Task, import_module(TASKS[name]))
