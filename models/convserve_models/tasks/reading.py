"""Reading: predicting words from their neighbours, which needs no labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from convserve_models.tasks.classification import Metric


def loss(nats: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Nats per word, averaged over the batch; there is nothing to compare them with."""
    return nats.mean()


def figures(nats: NDArray[np.float32], labels: NDArray[np.int64], split: str) -> list[Metric]:
    """The average nats per word."""
    return [Metric("nats_per_word", float(nats.mean()), len(nats), split)]
