"""A QRNN that has learned to read first, on the DBpedia sample."""

from dataclasses import replace

from convserve_models.recipe import Preprocess
from convserve_models.recipes import qrnn_imdb

RECIPE = replace(
    qrnn_imdb.RECIPE,
    id="qrnn_dbpedia14k",
    title="What kind of thing an encyclopedia describes, word by word in both directions",
    arguments={**qrnn_imdb.RECIPE.arguments, "labels": 14},
    dataset="dbpedia14k",
    preprocess=Preprocess.words(128),
    epochs=12,
    held_out=1000,
)
