"""The layers of a stack, as a paper's table states them: no weights, no input size."""

from dataclasses import dataclass
from typing import Literal

Axes = int | tuple[int, ...]
"""One number for every axis, or one per axis."""

Padding = (
    Literal["valid", "half", "full", "same", "causal"] | int | tuple[int | tuple[int, int], ...]
)
"""A named mode, zeros on every side, or per axis: zeros on both sides or (before, after)."""


class LayerError(ValueError):
    """A layer does not fit its stack; the message names the layer, the sizes and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A direct convolution to `channels` feature maps."""

    name: str
    channels: int
    kernel: Axes
    stride: Axes = 1
    padding: Padding = "valid"
    dilation: Axes = 1
    groups: int = 1
    bias: bool = True

    kind = "convolution"


@dataclass(frozen=True, kw_only=True)
class TransposedConvolution:
    """A transposed convolution; `padding` is that of the direct convolution it undoes.

    `output_padding` is the guide's a: positions added after, which the input's size cannot tell.
    Under `same` the output size is s·i + a, as in TensorFlow.
    """

    name: str
    channels: int
    kernel: Axes
    stride: Axes = 1
    padding: Padding = "valid"
    output_padding: Axes = 0
    dilation: Axes = 1
    groups: int = 1
    bias: bool = True

    kind = "transposed convolution"


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """Max or average pooling; `stride` is the kernel where it is not given.

    `ceil` keeps a last, partial window, provided that it starts inside the input or the padding
    before it (torch's `ceil_mode`).
    """

    name: str
    kernel: Axes
    stride: Axes | None = None
    padding: Padding = "valid"
    dilation: Axes = 1
    ceil: bool = False
    operation: Literal["max", "average"] = "max"

    @property
    def kind(self) -> str:
        """`max pooling` or `average pooling`."""
        return f"{self.operation} pooling"


@dataclass(frozen=True, kw_only=True)
class GlobalPooling:
    """Pooling whose window is the whole feature map."""

    name: str

    kind = "global pooling"


@dataclass(frozen=True, kw_only=True)
class KMaxPooling:
    """The `k` largest values of each feature map, in their order (a single spatial axis).

    Any of its units may come from anywhere: every window is the whole axis.
    """

    name: str
    k: int

    kind = "k-max pooling"


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A learned column of `channels` numbers for each of `symbols` ids; its input has one channel.

    A look-up: it costs no MAC.
    """

    name: str
    symbols: int
    channels: int

    kind = "embedding"


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A fully connected layer: a convolution whose kernel is the whole feature map."""

    name: str
    channels: int
    bias: bool = True

    kind = "linear"


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Batch normalisation, with a scale and an offset per channel where `affine`.

    It costs no MAC: in service it is folded into the convolution before it.
    """

    name: str
    affine: bool = True

    kind = "normalization"


@dataclass(frozen=True, kw_only=True)
class Join:
    """Feature maps of several branches made one: channels side by side, or element by element.

    `sum` stands for any element-wise function of equal shapes, of which the sum is the usual one.
    """

    name: str
    operation: Literal["concatenation", "sum"]

    @property
    def kind(self) -> str:
        """`concatenation` or `sum`."""
        return self.operation


Layer = (
    Convolution
    | TransposedConvolution
    | Pooling
    | GlobalPooling
    | KMaxPooling
    | Embedding
    | Linear
    | Normalization
    | Join
)
