"""English without labels: the training texts of the other text datasets, cut into equal pieces.

For networks that learn to read before they learn to classify. No test text of any dataset is in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convserve_models.data import Card, Dataset, Split, ag_news, dbpedia14k, imdb

CARD = Card(
    name="english",
    source=", ".join(module.CARD.source for module in (ag_news, dbpedia14k, imdb)),
    licence="as theirs",
    labels=(),
)
PIECE = 90
"""Words, as white space parts them."""
TEST_EVERY = 50


def load(folder: Path) -> Dataset:
    """Read the datasets beside `folder`; every fiftieth piece is a test of reading."""
    sources = [
        module.load(folder.parent / module.CARD.name) for module in (ag_news, dbpedia14k, imdb)
    ]
    stream = [word for source in sources for text in source.train.inputs for word in text.split()]
    pieces = [" ".join(stream[i : i + PIECE]) for i in range(0, len(stream), PIECE)]
    train = [piece for i, piece in enumerate(pieces) if i % TEST_EVERY]
    return Dataset(CARD, sources[0].variant, _unlabelled(train), _unlabelled(pieces[::TEST_EVERY]))


def _unlabelled(texts: list[str]) -> Split:
    return Split(texts, np.zeros(len(texts), np.int64))
