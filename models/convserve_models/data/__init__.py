"""Datasets: one file each. `DATASETS` is a table of strings, resolved on use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

DATASETS = {
    "cifar10": "convserve_models.data.cifar10",
    "fashion_mnist": "convserve_models.data.fashion_mnist",
    "ag_news": "convserve_models.data.ag_news",
    "imagenet": "convserve_models.data.imagenet",
    "imdb": "convserve_models.data.imdb",
    "dbpedia14k": "convserve_models.data.dbpedia14k",
    "fsdd": "convserve_models.data.fsdd",
    "an4_mfcc": "convserve_models.data.an4",
    "english": "convserve_models.data.english",
}


class FetchError(Exception):
    """A file could not be had, or is not the one that was asked for."""


class UnusableData(ValueError):
    """A folder or a file that nothing can be learned from; the message says what is missing."""


Variant = Literal["official", "packed", "own"]


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
    """Raw inputs and labels.

    Inputs are `uint8 [N,H,W,3]` images, or a list of N texts or of N arrays of unequal length.
    Labels are `int64 [N]`, or `int64 [N, S]` letters with 0 after the end.
    """

    inputs: NDArray[np.uint8] | list[Any]
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
            for item in self.inputs:
                sha.update(item.encode() + b"\0" if isinstance(item, str) else _bytes(item))
        else:
            sha.update(np.ascontiguousarray(self.inputs).data)
        sha.update(self.labels.astype("<i8").tobytes())
        return sha.hexdigest()


@dataclass(frozen=True, slots=True)
class Dataset:
    """The two published splits, and which layout they were read from.

    `held_out` is for data of which a random part would not be independent of the rest.
    """

    card: Card
    variant: Variant
    train: Split
    test: Split
    held_out: Split | None = None

    def divide(self, held_out: int, seed: int) -> tuple[Split, Split]:
        """What is trained on, and what is held out: the dataset's own, or part of its training."""
        if self.held_out:
            return self.train, self.held_out
        order = np.random.default_rng(seed).permutation(len(self.train)).astype(np.int64)
        return self.train.take(order[held_out:]), self.train.take(order[:held_out])


def _bytes(array: NDArray[Any]) -> bytes:
    return np.int64(len(array)).tobytes() + np.ascontiguousarray(array).tobytes()


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
