"""Fits the tables of n-grams before a training: logistic regression on words and pairs (tf-idf)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from torch import nn

from convserve_models import network
from convserve_models.data import Split
from convserve_models.layers.ngrams import Ngrams
from convserve_models.recipe import Recipe

Floats = NDArray[np.float32]

RARE = 2
"""What fewer texts have says nothing."""
BATCH = 1000


def fit(model: nn.Module, recipe: Recipe, training: Split) -> None:
    """Give every table of n-grams in the network its values."""
    for part in model.modules():
        if isinstance(part, Ngrams):
            counts = _counts(part, recipe, training)
            rarity = _rarity(counts)
            table, bias = _fitted(counts, rarity, training.labels, recipe.evidence)
            for name, values in {"rarity": rarity, "table": table, "bias": bias}.items():
                part.get_buffer(name).copy_(torch.from_numpy(values))


def _counts(part: Ngrams, recipe: Recipe, training: Split) -> Any:
    """How often each text `[N]` has each row `[rows]` of the table: a sparse matrix."""
    blocks = []
    for batch in network.batches(training, BATCH):
        rows, there = (t.numpy() for t in part.places(network.tensor(recipe, batch)))
        text, place = np.nonzero(there)
        values = np.ones(len(text), np.float32)
        shape = (len(batch), part.rows)
        blocks.append(sparse.csr_matrix((values, (text, rows[text, place])), shape=shape))
    return sparse.vstack(blocks).tocsr()


def _rarity(counts: Any) -> Floats:
    """The inverse document frequency of each row, zero of those in too few texts."""
    texts = np.asarray((counts > 0).sum(0)).ravel()
    rarity = np.log((1 + counts.shape[0]) / (1 + texts)) + 1
    return np.where(texts >= RARE, rarity, 0).astype(np.float32)


def _fitted(counts: Any, rarity: Floats, labels: NDArray[np.int64], weight: float) -> Any:
    """The table `[rows, labels]` and the bias `[labels]`."""
    weighted = counts @ sparse.diags(rarity)
    length = np.sqrt(np.asarray(counts @ (rarity**2)).ravel())
    common = np.flatnonzero(rarity)
    features = (sparse.diags(1 / np.maximum(length, 1)) @ weighted).tocsc()[:, common].tocsr()
    model = LogisticRegression(C=weight, max_iter=200).fit(features, labels)
    slopes, bias = model.coef_, model.intercept_
    if len(slopes) == 1:  # of two labels it learns one score only
        slopes, bias = np.stack([-slopes[0], slopes[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
    table = np.zeros((len(rarity), len(bias)), np.float32)
    table[common] = slopes.T * rarity[common, None]
    return table, bias.astype(np.float32)
