"""VDCNN with nine convolutions, at half width, on IMDB."""

from dataclasses import replace

from convserve_models.recipe import Preprocess
from convserve_models.recipes import vdcnn_ag_news

RECIPE = replace(
    vdcnn_ag_news.RECIPE,
    id="vdcnn_imdb",
    title="Whether a film review praises, by nine convolutions over its letters",
    arguments={**vdcnn_ag_news.RECIPE.arguments, "labels": 2, "length": 1024},
    dataset="imdb",
    preprocess=Preprocess.characters(1024),
    epochs=8,
    learning_rate=1e-3,
    notes=(
        "not a dataset of the paper; half of all reviews are longer than the 1024 characters read",
        "half of the paper's features, 512 instead of 2048 hidden units",
        *vdcnn_ag_news.RECIPE.notes[1:],
    ),
)
