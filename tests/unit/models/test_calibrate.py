"""Calibration recovers what was put in, and keeps its promise on fresh samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convserve_models import calibrate
from convserve_models.tasks import classification


def sample(n: int, seed: int, labels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a perfectly calibrated classifier, and labels drawn from its probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, labels))
    chances = classification.softmax(logits).cumsum(axis=1)
    drawn = (random.random((n, 1)) > chances).sum(axis=1)
    return logits, np.minimum(drawn, labels - 1).astype(np.int64)


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_temperature_recovers_the_factor(factor: float) -> None:
    logits, labels = sample(20_000, 1)
    found = calibrate.temperature(logits * factor, labels)
    assert found == pytest.approx(factor, rel=0.05)
    before = classification.softmax(logits * factor)
    after = classification.softmax(logits * factor, found)
    ece = classification.expected_calibration_error
    assert ece(after, labels) < 0.015
    assert factor == 1.0 or ece(after, labels) < ece(before, labels) / 3


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0.8, 0.9, 0.95]))
def test_sets_cover_as_promised(seed: int, coverage: float) -> None:
    logits, labels = sample(6000, seed)
    probabilities = classification.softmax(logits)
    threshold = calibrate.conformal_threshold(probabilities[:3000], labels[:3000], coverage)
    sets = calibrate.label_sets(probabilities[3000:], threshold)
    covered = sets[np.arange(3000), labels[3000:]].mean()
    assert covered > coverage - 0.03  # five standard errors of both halves
    assert sets.any(axis=1).all()


def test_ece_of_known_cases() -> None:
    labels = np.array([0, 0, 1, 1])
    sure = np.array([[1.0, 0.0]] * 4)
    assert classification.expected_calibration_error(sure, labels) == pytest.approx(0.5)
    honest = np.array([[0.5 + 1e-9, 0.5 - 1e-9]] * 4)
    assert classification.expected_calibration_error(honest, labels) == pytest.approx(0.0, abs=1e-6)


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_holds_the_rate(n: int, rate: float) -> None:
    low, high = classification.wilson(rate, n)
    assert -1e-9 <= low <= rate + 1e-9
    assert rate - 1e-9 <= high <= 1 + 1e-9


def test_wilson_of_a_textbook_case() -> None:
    # 8 of 10 (Agresti & Coull, 1998): 0.490 to 0.943.
    assert classification.wilson(0.8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)
