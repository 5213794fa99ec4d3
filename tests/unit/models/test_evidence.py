"""The table of n-grams is the linear model that it stands for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import nn

from convserve_models import evidence, network, recipes
from convserve_models.data import Split
from convserve_models.layers.ngrams import Ngrams

VOCABULARY = [f"word{i}" for i in range(24)]


def drawn(labels: int, n: int = 90) -> Split:
    """Texts in which no word stands twice, so that a vector's length is the same in both."""
    random = np.random.default_rng(0)
    truth = np.arange(n, dtype=np.int64) % labels
    own = [random.choice(VOCABULARY[label::labels], 4, replace=False) for label in truth]
    texts = [" ".join(dict.fromkeys([*words, *random.choice(VOCABULARY, 4)])) for words in own]
    return Split(texts, truth)


@pytest.mark.parametrize("labels", [2, 3])
def test_it_says_what_a_logistic_regression_on_tf_idf_says(labels: int) -> None:
    split = drawn(labels)
    recipe = replace(recipes.load("word_cnn_ag_news"), arguments={"labels": labels})
    part = Ngrams(1_000_003, labels)
    evidence.fit(nn.Sequential(part), recipe, split)
    said = part(network.tensor(recipe, split))
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=evidence.RARE)
    features = vectors.fit_transform(split.inputs)
    model = LogisticRegression(C=recipe.evidence, max_iter=200).fit(features, split.labels)
    expected = torch.from_numpy(model.predict_proba(features)).float()
    torch.testing.assert_close(said.softmax(1), expected, atol=5e-3, rtol=0)


def test_padding_and_unseen_words_say_nothing() -> None:
    part = Ngrams(1_000_003, 2)
    recipe = replace(recipes.load("word_cnn_ag_news"), arguments={"labels": 2})
    evidence.fit(nn.Sequential(part), recipe, drawn(2))
    bias = part.get_buffer("bias")
    for texts in (["never seen before"], ["…"]):
        said = part(network.tensor(recipe, Split(texts, np.zeros(1, np.int64))))
        torch.testing.assert_close(said[0], bias)
    ids = network.tensor(recipe, drawn(2))
    torch.testing.assert_close(part(ids), part(nn.functional.pad(ids, (0, 9))))
