"""What a linear model attains on the same split: the figure every network must be read against."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from convserve_models.data import Split
from convserve_models.tasks.classification import Metric, wilson

PIXELS = "logistic regression on pixels"
SIDE = 32
WORDS = "logistic regression on words and bigrams (tf-idf)"


def linear(training: Split, test: Split) -> tuple[str, Metric]:
    """Fit on the training split; return the model's name and its accuracy on the test split."""
    name, model = _model(training)
    model.fit(training.inputs, training.labels)
    rate = float((model.predict(test.inputs) == test.labels).mean())
    return name, Metric("accuracy", rate, len(test), "test", wilson(rate, len(test)))


def _model(training: Split) -> tuple[str, Pipeline]:
    if isinstance(training.inputs, list):
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        return WORDS, make_pipeline(words, LogisticRegression(C=10, max_iter=200))
    # Strong decay and few iterations: the weights of 3,072 pixels overfit long before they settle.
    flat = FunctionTransformer(_flatten)
    return PIXELS, make_pipeline(flat, LogisticRegression(C=0.001, max_iter=40, tol=0.01))


def _flatten(images: Any) -> Any:
    return _reduced(images).reshape(len(images), -1).astype(np.float32) / 127.5 - 1


def _reduced(images: Any) -> Any:
    """Photographs at about 32×32: a linear model has no use for more pixels, only for memory."""
    n, height, width, channels = images.shape
    tile = max(1, min(height, width) // SIDE)
    rows, columns = height // tile, width // tile
    cut = images[:, : rows * tile, : columns * tile]
    return cut.reshape(n, rows, tile, columns, tile, channels).mean(axis=(2, 4))
