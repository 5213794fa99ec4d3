"""Texts as the targets of a speech network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode(texts: Sequence[str], alphabet: Sequence[str]) -> NDArray[np.int64]:
    """Texts -> ids `int64 [N, longest]`: 1 + position in the alphabet, 0 after the end.

    Raises `KeyError` for a character outside the alphabet.
    """
    ids = {character: place for place, character in enumerate(alphabet, start=1)}
    rows = np.zeros((len(texts), max(map(len, texts))), np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = [ids[character] for character in text]
    return rows
