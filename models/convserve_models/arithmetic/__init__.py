"""Convolution arithmetic: the shapes, receptive fields and costs of a stack of layers.

`axis` holds the rules of one axis, `layers` the layers as a paper's table states them, `windows`
leads from these to those, `stack` follows an input through a chain of layers, `table` prints the
outcome. Any number of dimensions, no torch.
"""

from convserve_models.arithmetic.layers import (
    Convolution,
    Embedding,
    GlobalPooling,
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
