"""The auto segmentation criterion against enumeration, and what its paths spell."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from convserve_models.tasks import asg
from convserve_models.tasks.transcription import SPACE
from convserve_models.zoo.wav2letter import Wav2Letter

LETTERS = 4
TEXTS = st.lists(st.integers(2, LETTERS - 1), min_size=1, max_size=3).filter(
    lambda text: text != [text[0]] * 3
)
POSITIONS = st.integers(4, 5)
SEEDS = st.integers(0, 99)


def edges(positions: int, seed: int) -> Tensor:
    return torch.randn(1, LETTERS, LETTERS, positions, generator=torch.manual_seed(seed))


def paths(scores: Tensor) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every path, and its score."""
    for path in itertools.product(range(LETTERS), repeat=scores.shape[-1]):
        steps = itertools.pairwise((SPACE, *path))
        yield path, sum(scores[0, i, j, t].item() for t, (i, j) in enumerate(steps))


def merged(path: tuple[int, ...]) -> list[int]:
    return [letter for letter, _ in itertools.groupby((SPACE, *path))]


@settings(deadline=None, max_examples=20)
@given(TEXTS, POSITIONS, SEEDS)
def test_the_loss_is_what_enumeration_says(text: list[int], positions: int, seed: int) -> None:
    scores, labels = edges(positions, seed), torch.tensor([[*text, 0]])
    (letters,), (length,) = (part.tolist() for part in asg.spelled(labels))
    all_of_them = list(paths(scores))
    these = [(path, score) for path, score in all_of_them if merged(path) == letters[:length]]
    assert {asg.text(list(path)) for path, _ in these} == {tuple(text)}
    total, part = (
        np.logaddexp.reduce([score for _, score in some]) for some in (all_of_them, these)
    )
    expected = (total - part) / length
    assert asg.loss(scores, labels, 0.0).item() == pytest.approx(expected, abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(POSITIONS, SEEDS)
def test_the_best_path_is_the_best_of_all(positions: int, seed: int) -> None:
    scores = edges(positions, seed)
    best = max(paths(scores), key=lambda scored: scored[1])[0]
    assert asg.greedy(scores.numpy()) == [asg.text(list(best))]


def test_without_transitions_it_is_the_probability_of_all_alignments() -> None:
    """If positions are normalised, which the criterion does not ask for."""
    logp = torch.randn(1, LETTERS, 5).log_softmax(1)
    scores = logp[:, None].expand(-1, LETTERS, -1, -1)
    spelling = [SPACE, 2, 3, SPACE]
    expected = sum(np.exp(score) for path, score in paths(scores) if merged(path) == spelling)
    loss = asg.loss(scores, torch.tensor([[2, 3]]), 0.0)
    assert loss.item() == pytest.approx(-np.log(expected) / 4, abs=1e-5)


def test_rows_of_any_length_are_scored_apart_and_those_too_long_not_at_all() -> None:
    scores = torch.randn(3, LETTERS, LETTERS, 4, requires_grad=True)
    labels = torch.tensor([[2, 2, 3], [3, 0, 0], [2, 0, 0]])
    long = torch.tensor([[2, 3, 2, 3]])
    alone = [asg.loss(scores[i : i + 1], labels[i : i + 1], 0.0) for i in range(3)]
    torch.testing.assert_close(asg.loss(scores, labels, 0.0), torch.stack(alone).mean())
    unfit = asg.loss(scores[:1], long, 0.0)
    unfit.backward()
    assert unfit == 0
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_doubled_letters_are_spelled_again_between_spaces() -> None:
    letters, lengths = asg.spelled(torch.tensor([[2, 3, 3], [3, 0, 0]]))
    assert letters.tolist() == [[1, 2, 3, 0, 1], [1, 3, 1, 1, 1]]
    assert lengths.tolist() == [5, 3]
    assert asg.text([1, 1, 2, 3, 0, 0, 1]) == (2, 3, 3)
    assert asg.text([1, 0]) == ()


def test_a_network_learns_its_transitions_and_is_silent_behind_the_end() -> None:
    torch.manual_seed(0)
    model = Wav2Letter(**Wav2Letter.tiny, transitions=True)
    sound = torch.randn(2, 400)
    sound[1, 200:] = torch.nan
    scores = model(sound)
    assert scores.shape == (2, 5, 5, 400 // 8 // 2 + 1)
    assert (scores[1, :, :, 20:].argmax(1) == SPACE).all()
    asg.loss(scores, torch.tensor([[2, 3], [4, 0]]), 0.0).backward()
    assert model.transitions is not None
    assert model.transitions.grad is not None
    assert model.transitions.grad.abs().sum() > 0
