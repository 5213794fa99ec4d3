"""Letters' log probabilities by position → text: CTC's greedy and prefix-beam decoding."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convserve.artifact import Manifest, TranscriptionPostprocess
from convserve.errors import InferenceFailed, InvalidArtifact

DIGITS = 6  # of a probability: what float32 resolves
BLANK = 0
WIDTH = 16  # prefixes that the beam keeps
UNLIKELY = -12.0  # log probability of a letter below which the beam does not try it
Floats = NDArray[np.floating]
Prefix = tuple[int, ...]


class Transcription:
    """Log probabilities [positions, 1 + letters] → transcript, its characters, alternatives."""

    def __init__(self, manifest: Manifest) -> None:
        facts = manifest.postprocess
        assert isinstance(facts, TranscriptionPostprocess)
        self.labels = facts.labels
        self._seconds = facts.seconds
        self._output = manifest.outputs[0].name
        self._graph = manifest.graphs.predict.file

    def proof(self, outputs: dict[str, NDArray[Any]]) -> dict[str, float]:
        """Return each letter's probability at each position, named `<position> <letter>`."""
        probabilities = np.exp(self._row(outputs)).tolist()
        names = ("", *self.labels)
        if len(probabilities[0]) != len(names):
            raise InvalidArtifact(
                f"{self._graph} gives {len(probabilities[0])} letters, the manifest's alphabet has "
                f"{len(names)}, the blank among them",
                "write one character for each output but the first, which is the blank",
            )
        return {
            f"{place} {name}": probability
            for place, row in enumerate(probabilities)
            for name, probability in zip(names, row, strict=True)
        }

    def searches(self, top_k: int | None) -> bool:
        """Tell whether an answer takes too long for the event loop: a beam does."""
        return top_k is not None

    def answer(self, outputs: dict[str, NDArray[Any]], top_k: int | None) -> dict[str, object]:
        """Return the transcript with its score and its characters.

        They are those of the most probable path; with `top_k`, those of the most probable text,
        and so many texts are listed in `alternatives`.
        """
        row = self._row(outputs)
        if top_k is None:
            path = row.argmax(axis=1)
            letters = collapsed(path.tolist())
            score = float(row[np.arange(len(row)), path].sum())
            return self._texts([(letters, score)]) | {"characters": self._characters(row, path)}
        found = beam(row, WIDTH)[:top_k]
        characters = self._characters(row, align(row, found[0][0]))
        listed = [self._texts([one]) for one in found]
        return self._texts(found) | {"characters": characters, "alternatives": listed}

    def _row(self, outputs: dict[str, NDArray[Any]]) -> Floats:
        row: Floats = outputs[self._output]
        if not np.isfinite(row).all():
            raise InferenceFailed("the model gave a probability that is not a number")
        return row

    def _texts(self, found: Sequence[tuple[Prefix, float]]) -> dict[str, object]:
        letters, score = found[0]
        text = "".join(self.labels[letter - 1] for letter in letters)
        return {"transcript": text, "score": round(score, DIGITS)}

    def _characters(self, row: Floats, path: NDArray[np.int64]) -> list[dict[str, object]]:
        """Return the letters of a path, and where it says them."""
        edges = np.flatnonzero(np.diff(path, prepend=-1, append=-1))
        return [
            {
                "character": self.labels[path[start] - 1],
                "start": round(start * self._seconds, 3),
                "end": round(end * self._seconds, 3),
                "probability": round(float(np.exp(row[start:end, path[start]].max())), DIGITS),
            }
            for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
            if path[start] != BLANK
        ]


def collapsed(path: Iterable[int]) -> Prefix:
    """Return the letters of a path: repetitions merged, blanks dropped."""
    return tuple(letter for letter, _ in groupby(path) if letter != BLANK)


def beam(row: Floats, width: int) -> list[tuple[Prefix, float]]:
    """Return the most probable texts with their log probabilities, best first.

    Prefix beam search (Graves, 2012; Hannun et al., 1408.2873): for each prefix the probability
    of the paths that end with a blank, and of those that end with its last letter.
    """
    kept: dict[Prefix, tuple[float, float]] = {(): (0.0, -inf)}
    for scores in row.tolist():
        following: dict[Prefix, tuple[float, float]] = {}
        likely = [i for i, score in enumerate(scores) if score > UNLIKELY and i != BLANK]
        for prefix, (blank, letter) in kept.items():
            total = _add(blank, letter)
            _offer(following, prefix, total + scores[BLANK], -inf)
            if prefix:
                _offer(following, prefix, -inf, letter + scores[prefix[-1]])
            for i in likely:
                before = blank if prefix and prefix[-1] == i else total
                _offer(following, (*prefix, i), -inf, before + scores[i])
        ranked = sorted(following.items(), key=lambda item: -_add(*item[1]))
        kept = dict(ranked[:width])
    return [(prefix, _add(*parts)) for prefix, parts in kept.items()]


def _offer(
    following: dict[Prefix, tuple[float, float]], prefix: Prefix, blank: float, letter: float
) -> None:
    if blank == letter == -inf:
        return
    before = following.get(prefix, (-inf, -inf))
    following[prefix] = _add(before[0], blank), _add(before[1], letter)


def _add(one: float, other: float) -> float:
    """Return log(e^one + e^other)."""
    high, low = (one, other) if one > other else (other, one)
    return high if low == -inf else high + float(np.log1p(np.exp(low - high)))


def align(row: Floats, letters: Prefix) -> NDArray[np.int64]:
    """Return the most probable path [positions] of a text (Viterbi over its letters and blanks)."""
    states = np.zeros(2 * len(letters) + 1, np.int64)
    states[1::2] = letters
    # A letter may follow the one before without a blank between them, unless it is the same.
    skips = np.zeros(len(states), bool)
    skips[2:] = (states[2:] != BLANK) & (states[2:] != states[:-2])
    scores = np.full(len(states), -np.inf)
    scores[0] = 0.0
    steps = np.empty((len(row), len(states)), np.int64)
    for place, emitted in enumerate(row[:, states]):
        stayed = scores
        came = np.concatenate([[-np.inf], scores[:-1]])
        skipped = np.where(skips, np.concatenate([[-np.inf] * 2, scores])[: len(states)], -np.inf)
        choices = np.stack([stayed, came, skipped])
        steps[place] = choices.argmax(axis=0)
        scores = choices.max(axis=0) + emitted
    state = len(states) - 1 if len(states) == 1 or scores[-1] > scores[-2] else len(states) - 2
    path = np.empty(len(row), np.int64)
    for place in range(len(row) - 1, -1, -1):
        path[place] = states[state]
        state -= steps[place, state]
    return path
