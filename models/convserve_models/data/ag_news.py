"""AG News: news topics in four classes (Zhang, Zhao & LeCun, 2015, from Gulli's corpus).

Official: the published CSV files, 120,000 / 7,600. Packed: `train.tsv.xz`, `test.tsv.xz`, a
24,286-text subset of the former and 6,000 texts of the latter; figures on it say so.
"""

from __future__ import annotations

from pathlib import Path

from convserve_models.data import Card, Dataset, Split
from convserve_models.data.fetch import Remote, fetch
from convserve_models.data.texts import packed, published

CARD = Card(
    name="ag_news",
    source="http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html",
    licence="for research and other non-commercial use, as the corpus's readme says",
    labels=("World", "Sports", "Business", "Sci/Tech"),
)
_ORIGIN = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
TRAIN = Remote(
    f"{_ORIGIN}/train.csv", "76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e"
)
TEST = Remote(
    f"{_ORIGIN}/test.csv", "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699"
)
_TEXT = 1


def load(folder: Path) -> Dataset:
    """Read the packed layout if it is in `folder`, else the official files."""
    if (folder / "train.tsv.xz").exists():
        splits = [packed(folder / f"{part}.tsv.xz", _TEXT) for part in ("train", "test")]
        return Dataset(CARD, "packed", *splits)
    return Dataset(CARD, "official", *(_official(fetch(part, folder)) for part in (TRAIN, TEST)))


def _official(path: Path) -> Split:
    with path.open(encoding="utf-8", newline="") as file:
        return published(file)
