"""CTC and the error rates."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convserve_models.tasks import transcription

WORDS = st.lists(st.integers(1, 4), max_size=7)


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(letter for letter, _ in itertools.groupby(path) if letter)


@settings(deadline=None, max_examples=25)
@given(
    labels=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    positions=st.integers(4, 6),
    silence=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_loss_sums_over_all_paths(
    labels: list[int], positions: int, silence: int, seed: int
) -> None:
    """Against enumeration; positions behind the end, certain of the blank, change nothing."""
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.standard_normal((1, 3, positions))).float()
    logp = logits.log_softmax(1)[0].numpy()
    paths = itertools.product(range(3), repeat=positions)
    total = sum(
        np.exp(sum(logp[letter, place] for place, letter in enumerate(path)))
        for path in paths
        if collapsed(path) == tuple(labels)
    )
    if total == 0:
        return
    behind = torch.full((1, 3, silence), -1e4)
    behind[:, 0] = 0
    targets = torch.tensor([[*labels, 0, 0]])
    found = transcription.loss(torch.cat([logits, behind], 2), targets, 0.0)
    assert found.item() == pytest.approx(-np.log(total) / len(labels), abs=1e-4)


def test_a_text_that_does_not_fit_has_no_loss() -> None:
    logits = torch.randn(1, 3, 2, requires_grad=True)
    loss = transcription.loss(logits, torch.tensor([[1, 1, 2, 1]]), 0.0)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_greedy_merges_and_drops() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 0, 0]
    outputs = np.eye(3)[path].T[None]
    assert transcription.greedy(outputs) == [(1, 1, 2)]


@given(WORDS, WORDS, WORDS)
def test_distance_is_a_metric(one: list[int], other: list[int], third: list[int]) -> None:
    distance = transcription.distance
    assert distance(one, one) == 0
    assert distance(one, other) == distance(other, one)
    assert distance(one, third) <= distance(one, other) + distance(other, third)
    assert abs(len(one) - len(other)) <= distance(one, other) <= max(len(one), len(other))
    assert distance([*one, 9], other) <= distance(one, other) + 1


def test_rates() -> None:
    said = np.array([[2, 3, 1, 4, 0], [2, 2, 2, 2, 2], [3, 1, 3, 0, 0]])
    found = [(2, 3, 1, 4), (2, 2, 2, 2), (3, 4, 1, 3)]
    figures = {f.name: f for f in transcription.metrics(found, said, "x")}
    assert figures["ler"].value == pytest.approx(2 / 12)
    assert figures["wer"].value == pytest.approx(2 / 5)
    assert figures["exact"].value == pytest.approx(1 / 3)
    for figure in figures.values():
        assert figure.n == 3
        assert figure.interval is not None
        low, high = figure.interval
        assert low <= figure.value <= high
