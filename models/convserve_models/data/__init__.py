"""Datasets: one file each. `DATASETS` is a table of strings, resolved on use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DATASETS = {
    "cifar10": "convserve_models.data.cifar10",
    "ag_news": "convserve_models.data.ag_news",
    "imdb": "convserve_models.data.imdb",
    "dbpedia14k": "convserve_models.data.dbpedia14k",
}


class FetchError(Exception):
    """A file could not be had, or is not the one that was asked for."""


Variant = Literal["official", "packed"]


@dataclass(frozen=True, slots=True)
class Card:
    """What a dataset is, where it comes from, what may be done with it."""

    name: str
    source: str
    licence: str
    labels: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """Raw inputs (`uint8 [N,H,W,3]` images, or a list of N texts) and labels `int64 [N]`."""

    inputs: NDArray[np.uint8] | list[str]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """Return the samples at these positions, in this order."""
        if isinstance(self.inputs, list):
            return Split([self.inputs[i] for i in indices], self.labels[indices])
        return Split(self.inputs[indices], self.labels[indices])

    def digest(self) -> str:
        """SHA-256 of the decoded inputs and labels, in order."""
        sha = hashlib.sha256()
        if isinstance(self.inputs, list):
            for text in self.inputs:
                sha.update(text.encode() + b"\0")
        else:
            sha.update(np.ascontiguousarray(self.inputs).data)
        sha.update(self.labels.astype("<i8").tobytes())
        return sha.hexdigest()


@dataclass(frozen=True, slots=True)
class Dataset:
    """The two published splits, and which layout they were read from."""

    card: Card
    variant: Variant
    train: Split
    test: Split

    def divide(self, held_out: int, seed: int) -> tuple[Split, Split]:
        """Part the training split into what is trained on and what is held out."""
        order = np.random.default_rng(seed).permutation(len(self.train)).astype(np.int64)
        return self.train.take(order[held_out:]), self.train.take(order[:held_out])


def data_root() -> Path:
    """Where datasets lie: `CONVSERVE_DATA`, else the user's cache."""
    default = Path.home() / ".cache" / "convserve" / "data"
    return Path(os.environ.get("CONVSERVE_DATA") or default)


def card(name: str) -> Card:
    """A dataset's card; nothing is read or fetched."""
    found: Card = _module(name).CARD
    return found


def load(name: str, root: Path | None = None) -> Dataset:
    """Read a dataset from `<root>/<name>/`, fetching it from its origin if it is not there.

    Raises `KeyError` for an unknown name and `FetchError` when the origin cannot be reached.
    """
    read: Callable[[Path], Dataset] = _module(name).load
    return read((root or data_root()) / name)


def _module(name: str) -> ModuleType:
    if name not in DATASETS:
        raise KeyError(f"no dataset {name!r}; known: {', '.join(sorted(DATASETS))}")
    return import_module(DATASETS[name])
