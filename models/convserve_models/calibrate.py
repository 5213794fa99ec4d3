"""Honest probabilities: a temperature and a conformal threshold from held-out samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from convserve_models.tasks.classification import Floats, negative_log_likelihood, softmax

COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Calibration:
    """What held-out samples said of a network's confidence."""

    temperature: float
    coverage: float
    threshold: float


def calibrate(logits: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Fit the temperature, then the threshold of the label sets at that temperature."""
    fitted = temperature(logits, labels)
    threshold = conformal_threshold(softmax(logits, fitted), labels, COVERAGE)
    return Calibration(fitted, COVERAGE, threshold)


def temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The one number that divides the logits so that their likelihood is highest.

    Guo et al., *On Calibration of Modern Neural Networks*, 1706.04599. Searched in [0.05, 20].
    """

    def cost(log_temperature: float) -> float:
        return negative_log_likelihood(softmax(logits, float(np.exp(log_temperature))), labels)

    best = minimize_scalar(cost, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x))


def conformal_threshold(probabilities: Floats, labels: NDArray[np.int64], coverage: float) -> float:
    """Labels at least this probable form a set that holds the true one with this coverage.

    Split conformal prediction with the score 1 - p(true label), finite-sample corrected
    (Sadinle, Lei & Wasserman, 1609.00451).
    """
    scores = np.sort(1 - probabilities[np.arange(len(labels)), labels])
    rank = int(np.ceil((len(labels) + 1) * coverage))
    return float(1 - scores[min(rank, len(labels)) - 1])


def label_sets(probabilities: Floats, threshold: float) -> NDArray[np.bool_]:
    """Membership `[N, labels]`; the most probable label always belongs."""
    members = probabilities >= threshold
    members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
    return members
