"""Letters' log probabilities by position → text: CTC's greedy and prefix-beam decoding."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convserve.errors import InferenceFailed, InvalidArtifact
from convserve.manifest import Manifest, TranscriptionPostprocess

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
    tree = _Prefixes()
    kept = _Kept([0], np.zeros(1), np.full(1, -np.inf))
    for scores in row.astype(np.float64):
        kept = _followed(tree, kept, scores, width)
    return list(zip(map(tree.text, kept.prefixes), kept.total().tolist(), strict=True))


class _Kept(NamedTuple):
    """Prefixes, with the log probabilities of their paths that end with a blank or a letter."""

    prefixes: list[int]
    blank: Floats
    letter: Floats

    def total(self) -> Floats:
        return np.logaddexp(self.blank, self.letter)


def _followed(tree: "_Prefixes", kept: _Kept, scores: Floats, width: int) -> _Kept:
    """Return the best prefixes after one more position."""
    n, total = len(kept.prefixes), kept.total()
    last = np.array([tree.letters[prefix] for prefix in kept.prefixes])
    tried = np.where(scores > UNLIKELY, scores, -np.inf)
    # Those that grow by a letter; by their last one again only behind a blank.
    grown = total[:, None] + tried
    grown[np.arange(n), last] = kept.blank + tried[last]
    grown[:, BLANK] = -np.inf
    # Those that stay, by a blank or by their last letter; what grows into one of them joins it.
    rested, stayed = total + scores[BLANK], kept.letter + scores[last]
    parents = tree.parents_among(kept.prefixes)
    joins = parents >= 0
    joined = parents[joins], last[joins]
    stayed[joins] = np.logaddexp(stayed[joins], grown[joined])
    grown[joined] = -np.inf
    ways = np.concatenate([np.logaddexp(rested, stayed), grown.ravel()])
    best = np.argsort(-ways, kind="stable")[:width]
    best = best[np.isfinite(ways[best])]
    stays, place = best < n, np.minimum(best, n - 1)
    longer = (divmod(way, len(scores)) for way in (best[~stays] - n).tolist())
    children = (tree.child(kept.prefixes[parent], letter) for parent, letter in longer)
    return _Kept(
        [kept.prefixes[i] if i < n else next(children) for i in best.tolist()],
        np.where(stays, rested[place], -np.inf),
        np.where(stays, stayed[place], ways[best]),
    )


class _Prefixes:
    """All prefixes so far, as a tree: 0 is the empty one, a child is longer by its letter."""

    def __init__(self) -> None:
        self.letters = [BLANK]
        self._parents = [-1]
        self._children: dict[tuple[int, int], int] = {}

    def child(self, prefix: int, letter: int) -> int:
        found = self._children.setdefault((prefix, letter), len(self.letters))
        if found == len(self.letters):
            self.letters.append(letter)
            self._parents.append(prefix)
        return found

    def parents_among(self, kept: Sequence[int]) -> NDArray[np.int64]:
        """Return where each one's parent stands among them, -1 where it does not."""
        places = {prefix: place for place, prefix in enumerate(kept)}
        return np.array([places.get(self._parents[prefix], -1) for prefix in kept])

    def text(self, prefix: int) -> Prefix:
        letters = []
        while prefix:
            letters.append(self.letters[prefix])
            prefix = self._parents[prefix]
        return tuple(reversed(letters))


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
