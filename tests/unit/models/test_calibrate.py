"""Calibration recovers what was put in, and keeps its promise on fresh samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

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
    assert abs(covered - coverage) < 0.05  # five standard errors of both halves


@settings(deadline=None, max_examples=30)
@given(n=st.integers(40, 400), coverage=st.sampled_from([0.8, 0.9, 0.95]), seed=st.integers(0, 99))
def test_quantiles_keep_their_beta_binomial_promise(n: int, coverage: float, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(200, n + 100))
    kept = [int((row[n:] <= calibrate.quantile(row[:n], coverage)).sum()) for row in scores]
    rank = calibrate.quantile_rank(n, coverage)
    law = betabinom(100, rank, n + 1 - rank)
    assert law.mean() >= 100 * coverage - 1e-9
    assert abs(np.mean(kept) - law.mean()) < 5 * law.std() / np.sqrt(len(kept))


@settings(deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(0.1, 10))
def test_energy_is_what_softmax_divides_by(seed: int, factor: float) -> None:
    logits, _ = sample(50, seed)
    expected = -np.log(np.exp(logits / factor).sum(axis=1))
    np.testing.assert_allclose(calibrate.energy(logits, factor), expected, rtol=1e-9, atol=1e-9)


def test_evidence_for_no_label_is_out_of_distribution() -> None:
    logits, labels = sample(4000, 3)
    limit = calibrate.calibrate(logits, labels)
    strange = calibrate.energy(logits - 10, limit.temperature) > limit.energy_threshold
    usual = calibrate.energy(logits, limit.temperature) > limit.energy_threshold
    assert strange.mean() > 0.99
    assert usual.mean() == pytest.approx(1 - calibrate.COVERAGE, abs=1e-3)


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
