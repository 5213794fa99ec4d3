"""Fits the tables of n-grams before a training: naive Bayes ratios, weighted by a linear model.

Wang & Manning, *Baselines and Bigrams*, ACL 2012, with a logistic regression for the SVM.
"""

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

RARE = 2
"""What fewer texts have says nothing."""
BATCH = 1000


def fit(model: nn.Module, recipe: Recipe, training: Split) -> None:
    """Give every table of n-grams in the network its values."""
    for part in model.modules():
        if isinstance(part, Ngrams):
            table, bias = _fitted(_counts(part, recipe, training), training.labels, recipe)
            part.get_buffer("table").copy_(torch.from_numpy(table))
            part.get_buffer("bias").copy_(torch.from_numpy(bias))


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


def _fitted(
    counts: Any, labels: NDArray[np.int64], recipe: Recipe
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The table `[rows, labels]` and the bias `[labels]`, one label against the rest at a time."""
    present = (counts > 0).astype(np.float32)
    common = np.asarray(present.sum(0)).ravel() >= RARE
    scaled = sparse.diags(1 / np.sqrt(np.maximum(counts.sum(1).A1, 1))) @ counts
    columns, biases = [], []
    for label in range(recipe.arguments["labels"]):
        ratio = _ratio(present, labels == label) * common
        model = LogisticRegression(C=recipe.evidence, max_iter=60, tol=1e-3)
        model.fit(scaled @ sparse.diags(ratio), labels == label)
        columns.append(ratio * model.coef_[0])
        biases.append(model.intercept_[0])
    return np.stack(columns, 1).astype(np.float32), np.array(biases, np.float32)


def _ratio(present: Any, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The logarithm of how much more often a row is found in the texts of a label."""
    here, elsewhere = present[inside].sum(0).A1 + 1, present[~inside].sum(0).A1 + 1
    ratio: NDArray[np.float64] = np.log(here / here.sum()) - np.log(elsewhere / elsewhere.sum())
    return ratio
