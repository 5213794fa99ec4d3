"""Transcription: the CTC loss, and the figures a recogniser is judged by.

Letter 0 is CTC's blank, letter 1 the space between words. Behind the end of a sound the network is
certain of the blank (layers.sequences), so that no lengths need to be carried along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from convserve_models.tasks.classification import Floats, Ints, Metric, wilson

BLANK, SPACE = 0, 1
RESAMPLES = 1000
T = TypeVar("T")
Error = tuple[int, int]
"""Edits that turn what was recognised into what was said, and the length of the latter."""


def loss(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """CTC (Graves et al., 2006) of logits `[N, V, L]`, per letter; `smoothing` has no meaning here.

    `labels` are ids `[N, S]`, 0 after the end.
    """
    log_probabilities = outputs.float().log_softmax(1).permute(2, 0, 1)
    positions = torch.full((len(labels),), outputs.shape[-1], device=labels.device)
    return F.ctc_loss(log_probabilities, labels, positions, (labels > 0).sum(1), zero_infinity=True)


def greedy(outputs: Floats) -> list[tuple[int, ...]]:
    """The best path of each sound in logits `[N, V, L]`: repetitions merged, blanks dropped."""
    best = outputs.argmax(axis=1).tolist()
    return [tuple(letter for letter, _ in groupby(path) if letter != BLANK) for path in best]


def distance(one: Sequence[T], other: Sequence[T]) -> int:
    """Levenshtein's: the fewest insertions, deletions and replacements between two sequences."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, start=1):
            replaced = diagonal + (left != right)
            diagonal, row[j] = row[j], min(replaced, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def figures(outputs: Floats, labels: Ints, split: str) -> list[Metric]:
    """`metrics` of the best paths in logits `[N, V, L]`."""
    return metrics(greedy(outputs), labels, split)


def metrics(found: Sequence[tuple[int, ...]], labels: Ints, split: str) -> list[Metric]:
    """Letter and word error rate, and the share of sounds without any error.

    `ler` and `wer` are edits per letter and per word said; their intervals come from a bootstrap
    over sounds, that of `exact` is Wilson's.
    """
    said = [tuple(int(letter) for letter in row if letter != BLANK) for row in labels]
    exact = float(np.mean([one == other for one, other in zip(found, said, strict=True)]))
    n = len(said)
    return [
        _rate("ler", found, said, list, split),
        _rate("wer", found, said, _words, split),
        Metric("exact", exact, n, split, wilson(exact, n)),
    ]


def _rate(
    name: str,
    found: Sequence[tuple[int, ...]],
    said: Sequence[tuple[int, ...]],
    units: Callable[[tuple[int, ...]], Sequence[object]],
    split: str,
) -> Metric:
    pairs = [(units(one), units(other)) for one, other in zip(found, said, strict=True)]
    errors = np.array([(distance(one, other), len(other)) for one, other in pairs])
    picks = np.random.default_rng(0).integers(0, len(errors), (RESAMPLES, len(errors)))
    edits, length = errors[picks].sum(axis=1).T
    low, high = np.quantile(edits / length, [0.025, 0.975])
    total, of = errors.sum(axis=0)
    return Metric(name, float(total / of), len(errors), split, (float(low), float(high)))


def _words(letters: tuple[int, ...]) -> list[tuple[int, ...]]:
    parts = groupby(letters, key=lambda letter: letter == SPACE)
    return [tuple(part) for is_space, part in parts if not is_space]
