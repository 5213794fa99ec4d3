"""IMDB: film reviews, negative or positive (Maas et al., 2011).

Official: the authors' archive, 25,000 / 25,000, one file a review. Packed: `train.tsv.xz`,
`test.tsv.xz`, the same 25,000 and 20,000 of the test reviews; tabs and line breaks became spaces.
`<br />` stays in both. The stars in the packed layout and in the archive's file names give the
label away and are not read.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import numpy as np

from convserve_models.data import Card, Dataset, Split
from convserve_models.data.fetch import Remote, fetch
from convserve_models.data.texts import packed

CARD = Card(
    name="imdb",
    source="https://ai.stanford.edu/~amaas/data/sentiment/",
    licence="none stated; the authors ask to cite Maas et al., Learning Word Vectors for Sentiment "
    "Analysis, 2011",
    labels=("negative", "positive"),
)
ARCHIVE = Remote(
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
# The third folder of the training half, `unsup`, has no labels.
_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/\d+_\d+\.txt")
_TEXT = 3


def load(folder: Path) -> Dataset:
    """Read the packed layout if it is in `folder`, else the official archive."""
    if (folder / "train.tsv.xz").exists():
        splits = [packed(folder / f"{part}.tsv.xz", _TEXT) for part in ("train", "test")]
        return Dataset(CARD, "packed", *splits)
    return Dataset(CARD, "official", *_official(fetch(ARCHIVE, folder)))


def _official(path: Path) -> list[Split]:
    reviews: dict[str, list[tuple[int, str]]] = {"train": [], "test": []}
    with tarfile.open(path) as archive:
        for member in archive:
            found = _REVIEW.fullmatch(member.name)
            file = archive.extractfile(member) if found else None
            if found and file:
                label = ("neg", "pos").index(found[2])
                reviews[found[1]].append((label, file.read().decode("utf-8")))
    return [
        Split([text for _, text in half], np.array([label for label, _ in half], np.int64))
        for half in reviews.values()
    ]
