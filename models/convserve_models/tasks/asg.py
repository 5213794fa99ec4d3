"""Transcription by the auto segmentation criterion: Collobert et al., 1609.03193, §2.3.

There is no blank. A network scores every letter at every position, and every letter after every
other; the criterion compares what the paths that spell a text score with what all paths do, and
nothing is normalised per position. Letter 1, the space, is silence too: it stands before a text and
after it. Letter 0 says the letter before it again: "three" is spelled t h r e 0.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from convserve_models.tasks import transcription
from convserve_models.tasks.classification import Metric
from convserve_models.tasks.transcription import SPACE

AGAIN = 0
NEVER = -1e30
"""The score of what cannot be: finite, so that gradients are."""


def loss(scores: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """ASG of scores `[N, V, V, L]`, a letter before, a letter and a position, per letter.

    The letter before the first position is the space. `labels` are ids `[N, S]`, 0 after the end;
    texts that do not fit into L positions have no loss. `smoothing` has no meaning here.
    """
    scores = scores.float()
    letters, lengths = spelled(labels)
    among_all, among_these = _all_paths(scores), _paths_of(scores, letters, lengths)
    fits = among_these > NEVER / 2
    losses = torch.where(fits, among_all - among_these, torch.zeros_like(among_all))
    return (losses / lengths).mean()


def spelled(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Ids `[N, S]` -> letters `[N, S + 2]`, with spaces around, and how many each row has.

    No letter is there twice in a row, if none was three times.
    """
    letters = F.pad(labels, (1, 1), value=AGAIN)
    letters[:, 0] = SPACE
    before = F.pad(letters[:, :-1], (1, 0), value=AGAIN)
    lengths = (labels > 0).sum(1) + 2
    ended = torch.arange(letters.shape[1], device=labels.device) >= lengths[:, None] - 1
    return letters.masked_fill(letters == before, AGAIN).masked_fill(ended, SPACE), lengths


def _all_paths(scores: Tensor) -> Tensor:
    """The logarithm of the sum over all paths, `[N]`."""
    at = scores.unbind(-1)
    paths = at[0][:, SPACE]
    for edges in at[1:]:
        paths = torch.logsumexp(paths[:, :, None] + edges, 1)
    return paths.logsumexp(1)


def _paths_of(scores: Tensor, letters: Tensor, lengths: Tensor) -> Tensor:
    """The same over the paths that spell each row's letters, `[N]`."""
    row = torch.arange(len(letters), device=letters.device)[:, None]
    stays = scores[row, letters, letters].unbind(-1)
    moves = F.pad(scores[row, letters[:, :-1], letters[:, 1:]], (0, 0, 1, 0), value=NEVER)
    paths = torch.full_like(stays[0], NEVER)
    paths[:, 0] = 0.0
    for stay, move in zip(stays, moves.unbind(-1), strict=True):
        paths = torch.logaddexp(paths + stay, F.pad(paths[:, :-1], (1, 0), value=NEVER) + move)
    return paths.gather(1, lengths[:, None] - 1)[:, 0]


def greedy(scores: NDArray[np.float32]) -> list[tuple[int, ...]]:
    """The text of the best path of each sound in scores `[N, V, V, L]` (Viterbi)."""
    best, came = scores[:, SPACE, :, 0], []
    for edges in np.moveaxis(scores, -1, 0)[1:]:
        reached = best[:, :, None] + edges
        came.append(reached.argmax(1))
        best = reached.max(1)
    paths = [best.argmax(1)]
    for before in reversed(came):
        paths.append(np.take_along_axis(before, paths[-1][:, None], 1)[:, 0])
    return [text(path) for path in np.stack(paths[::-1], 1).tolist()]


def text(path: list[int]) -> tuple[int, ...]:
    """The letters that a path spells: repetitions merged, spaces around them dropped."""
    letters = [SPACE]
    for letter, _ in groupby(path):
        letters.append(letters[-1] if letter == AGAIN else letter)
    given = [place for place, letter in enumerate(letters) if letter != SPACE]
    return tuple(letters[given[0] : given[-1] + 1]) if given else ()


def figures(outputs: NDArray[np.float32], labels: NDArray[np.int64], split: str) -> list[Metric]:
    """The error rates of the best paths in scores `[N, V, V, L]`."""
    return transcription.metrics(greedy(outputs), labels, split)
