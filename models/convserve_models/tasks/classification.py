"""Classification: the loss, and the figures a classifier is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured figure with its sample size and, for rates, its 95 % interval."""

    name: str
    value: float
    n: int
    split: str
    interval: tuple[float, float] | None = None


def loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross entropy with label smoothing, averaged over the batch."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities `[N, labels]` of logits `[N, labels]`, in float64."""
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def accuracy(probabilities: Floats, labels: Ints) -> float:
    """Share of samples whose most probable label is the true one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def negative_log_likelihood(probabilities: Floats, labels: Ints) -> float:
    """Mean of -ln p(true label), in nats."""
    return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())


@dataclass(frozen=True, slots=True)
class Bin:
    """Samples of similar confidence: its mean, the share that was right, how many they are."""

    confidence: float
    accuracy: float
    n: int


def reliability(probabilities: Floats, labels: Ints, bins: int = 15) -> list[Bin]:
    """Confidence against accuracy in bins of equal width; empty bins are left out."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    members = (bin_of == b for b in np.unique(bin_of))
    return [
        Bin(float(confidence[m].mean()), float(correct[m].mean()), int(m.sum())) for m in members
    ]


def expected_calibration_error(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """ECE over equal-width bins of the top probability (Guo et al., 1706.04599)."""
    gaps = (b.n * abs(b.confidence - b.accuracy) for b in reliability(probabilities, labels, bins))
    return sum(gaps) / len(labels)


def confusion(probabilities: Floats, labels: Ints) -> Ints:
    """Samples `[true label, said label]`."""
    counts = np.zeros((probabilities.shape[1],) * 2, np.int64)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a rate."""
    centre = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def figures(outputs: Floats, labels: Ints, split: str) -> list[Metric]:
    """`metrics` of logits `[N, labels]` that nobody has calibrated yet."""
    return metrics(softmax(outputs), labels, split)


def metrics(probabilities: Floats, labels: Ints, split: str) -> list[Metric]:
    """Accuracy with its interval, negative log likelihood and ECE."""
    n = len(labels)
    rate = accuracy(probabilities, labels)
    return [
        Metric("accuracy", rate, n, split, wilson(rate, n)),
        Metric("nll", negative_log_likelihood(probabilities, labels), n, split),
        Metric("ece", expected_calibration_error(probabilities, labels), n, split),
    ]
