"""VDCNN with nine convolutions, at half width and 384 characters, on the DBpedia sample."""

from dataclasses import replace

from convserve_models.recipe import Preprocess
from convserve_models.recipes import vdcnn_ag_news

OTHER = {"labels": 14, "length": 384, "halving": "convolution"}

RECIPE = replace(
    vdcnn_ag_news.RECIPE,
    id="vdcnn_dbpedia14k",
    title="What kind of thing an encyclopedia describes, by nine convolutions over its letters",
    arguments={**vdcnn_ag_news.RECIPE.arguments, **OTHER},
    dataset="dbpedia14k",
    preprocess=Preprocess.characters(384),
    epochs=20,
    learning_rate=1e-3,
    batch_size=64,
    held_out=1000,
    notes=(
        "length 384 instead of 1024 characters, half of the paper's features, 512 instead of 2048 "
        "hidden units",
        *vdcnn_ag_news.RECIPE.notes[1:],
    ),
)
