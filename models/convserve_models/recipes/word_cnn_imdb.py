"""Filters over hashed words and the evidence of words and pairs, on IMDB."""

from dataclasses import replace

from convserve_models.recipe import Preprocess
from convserve_models.recipes import word_cnn_ag_news

RECIPE = replace(
    word_cnn_ag_news.RECIPE,
    id="word_cnn_imdb",
    title="Whether a film review praises, by its words and what stands together",
    arguments={**word_cnn_ag_news.RECIPE.arguments, "labels": 2, "ngrams": 524288},
    dataset="imdb",
    preprocess=Preprocess.words(768),
    epochs=3,
)
