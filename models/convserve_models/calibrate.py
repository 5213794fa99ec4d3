"""What held-out samples say of a network: how sure it may be, and what is unlike them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from convserve_models.tasks.classification import Floats, negative_log_likelihood, softmax

COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Calibration:
    """What held-out samples said of a network's confidence.

    Both thresholds keep `coverage`: of the true labels (at least so probable), and of the inputs
    (at most of so high an energy).
    """

    temperature: float
    coverage: float
    threshold: float
    energy_threshold: float


def calibrate(logits: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Fit the temperature, then both thresholds at that temperature."""
    fitted = temperature(logits, labels)
    threshold = conformal_threshold(softmax(logits, fitted), labels, COVERAGE)
    return Calibration(fitted, COVERAGE, threshold, quantile(energy(logits, fitted), COVERAGE))


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
    return 1 - quantile(1 - probabilities[np.arange(len(labels)), labels], coverage)


def quantile(scores: Floats, coverage: float) -> float:
    """The score that a fresh one of the same kind does not exceed with this probability.

    Of n scores the ceil((n + 1) * coverage)-th smallest: how many of m fresh ones do not exceed it
    is then beta-binomial (m, rank, n + 1 - rank), if none are equal.
    """
    return float(np.sort(scores)[quantile_rank(len(scores), coverage) - 1])


def quantile_rank(n: int, coverage: float) -> int:
    """Which of n sorted scores, counted from 1, has this coverage."""
    return min(int(np.ceil((n + 1) * coverage)), n)


def energy(logits: Floats, temperature: float) -> Floats:
    """Energy `[N]` of logits `[N, labels]` at a temperature (Liu et al., 2010.03759)."""
    return -np.asarray(logsumexp(logits.astype(np.float64) / temperature, axis=1))


def label_sets(probabilities: Floats, threshold: float) -> NDArray[np.bool_]:
    """Membership `[N, labels]`, as the service decides it: a set may be empty."""
    return probabilities >= threshold
