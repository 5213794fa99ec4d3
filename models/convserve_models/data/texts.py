"""Two layouts that datasets of texts share."""

from __future__ import annotations

import csv
import lzma
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from convserve_models.data import Split


def packed(path: Path, column: int) -> Split:
    """Tab-separated lines in an xz file: the label first, the text in `column`."""
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return Split([row[column] for row in rows], np.array([int(row[0]) for row in rows], np.int64))


def published(lines: Iterable[str]) -> Split:
    """CSV lines of Zhang, Zhao & LeCun (2015): a label from 1 on, a title, a text."""
    rows = list(csv.reader(lines))
    texts = [f"{title} {text}" for _, title, text in rows]
    return Split(texts, np.array([int(row[0]) - 1 for row in rows], np.int64))
