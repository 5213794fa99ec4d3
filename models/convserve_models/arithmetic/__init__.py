"""Convolution arithmetic: the shapes, receptive fields and costs of a stack of layers.

`axis` holds the rules of one axis, `layers` the layers as a paper's table states them, `windows`
leads from these to those, `stack` follows an input through layers and their branches, `table`
prints the outcome. Any number of dimensions, no torch.
"""

from convserve_models.arithmetic.layers import (
    Convolution,
    Embedding,
    GlobalPooling,
    Join,
    KMaxPooling,
    Layer,
    LayerError,
    Linear,
    Normalization,
    Padding,
    Pooling,
    TransposedConvolution,
)
from convserve_models.arithmetic.stack import Row, pyramid
from convserve_models.arithmetic.table import table

__all__ = [
    "Convolution",
    "Embedding",
    "GlobalPooling",
    "Join",
    "KMaxPooling",
    "Layer",
    "LayerError",
    "Linear",
    "Normalization",
    "Padding",
    "Pooling",
    "Row",
    "TransposedConvolution",
    "pyramid",
    "table",
]
