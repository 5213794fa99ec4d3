"""Filters over hashed words and the evidence of words and pairs, on the DBpedia sample."""

from dataclasses import replace

from convserve_models.recipes import word_cnn_ag_news

RECIPE = replace(
    word_cnn_ag_news.RECIPE,
    id="word_cnn_dbpedia14k",
    title="What kind of thing an encyclopedia describes, by its words and what stands together",
    arguments={**word_cnn_ag_news.RECIPE.arguments, "labels": 14, "ngrams": 131072},
    dataset="dbpedia14k",
    epochs=6,
    held_out=1000,
)
