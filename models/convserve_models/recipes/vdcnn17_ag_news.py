"""VDCNN with seventeen convolutions, k-max between levels and shortcuts, on AG News."""

from dataclasses import replace

from convserve_models.recipes import vdcnn_ag_news

DEEPER = {"depth": 17, "halving": "k_max", "shortcuts": True}

RECIPE = replace(
    vdcnn_ag_news.RECIPE,
    id="vdcnn17_ag_news",
    title="The topic of a news text, by seventeen convolutions over its letters",
    arguments={**vdcnn_ag_news.RECIPE.arguments, **DEEPER},
    epochs=24,
    batch_size=64,
    learning_rate=1.5e-3,
)
