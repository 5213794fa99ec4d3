"""A stack of layers and its pyramid: the shape, the receptive field and the cost of every layer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from math import gcd, lcm, prod

from convserve_models.arithmetic.axis import Direct, Transposed, Window
from convserve_models.arithmetic.layers import (
    Convolution,
    Embedding,
    Join,
    Layer,
    LayerError,
    Linear,
    Normalization,
    TransposedConvolution,
)
from convserve_models.arithmetic.windows import windows

Shape = tuple[int, ...]
"""Channels, then the sizes of the spatial axes."""


@dataclass(frozen=True, eq=False)
class Field:
    """What the units of a feature map see of the network's input, along one axis.

    Input positions count from 0; padding makes them negative or larger than the input. Unit n is
    centred at start + n·jump. `parents` are the fields that `window` reads; none at the input.
    """

    window: Window | None = None
    parents: tuple["Field", ...] = ()
    jump: Fraction = Fraction(1)
    start: Fraction = Fraction(0)

    def through(self, window: Window) -> "Field":
        """The field of the units that `window` computes from these."""
        start = self.start + window.shift * self.jump
        return Field(window, (self,), self.jump * window.scale, start)

    @property
    def size(self) -> int:
        """The receptive field: input positions from the first to the last that one unit sees.

        Units on both sides of a transposed layer differ: the largest counts. Exact where the
        kernel of a transposed layer is not smaller than its stride and undilated, else a bound.
        """
        known: _Known = {}
        return max(len(self._sources(range(unit, unit + 1), known)) for unit in range(self._phases))

    @property
    def grid(self) -> int:
        """The factor shared by the dilations since the last change of resolution, where several."""
        last, *earlier = self._since_join()
        run = takewhile(lambda w: isinstance(w, Direct) and w.stride == 1, earlier)
        dilations = [window.dilation for window in (last, *run) if window.kernel > 1]
        return gcd(*dilations) if len(dilations) > 1 else 1

    def _since_join(self) -> Iterator[Window]:
        """The windows back to the last join, the latest first."""
        field = self
        while field.window:
            yield field.window
            (field,) = field.parents

    @property
    def _phases(self) -> int:
        own = self.window.stride if isinstance(self.window, Transposed) else 1
        return own * lcm(*(parent._phases for parent in self.parents))

    def _sources(self, units: range, known: "_Known") -> range:
        """The span of input positions that a run of units sees through any of the parents."""
        if not self.parents or not units:
            return units
        if (id(self), units) not in known:
            read = self.window.sources(units) if self.window else units
            spans = [parent._sources(read, known) for parent in self.parents]
            known[id(self), units] = _span(spans)
        return known[id(self), units]


_Known = dict[tuple[int, range], range]


def _span(ranges: Sequence[range]) -> range:
    seen = [positions for positions in ranges if positions]
    return range(min(s.start for s in seen), max(s.stop for s in seen)) if seen else range(0)


def join(fields: Sequence[Field]) -> Field:
    """The field of units made from one unit of each branch.

    Raises LayerError where the branches differ in resolution.
    """
    if len({field.jump for field in fields}) > 1:
        jumps = " and ".join(str(field.jump) for field in fields)
        raise LayerError(f"branches whose units are {jumps} input positions apart cannot be joined")
    halves = [Fraction(field.size - 1, 2) for field in fields]
    first = min(field.start - half for field, half in zip(fields, halves, strict=True))
    last = max(field.start + half for field, half in zip(fields, halves, strict=True))
    return Field(None, tuple(fields), fields[0].jump, (first + last) / 2)


@dataclass(frozen=True)
class Row:
    """One layer of a pyramid. Tuples hold one entry per spatial axis; counts are of one sample.

    `start` is the centre of the first unit's receptive field and `jump` the distance to the next,
    in input positions. `macs` counts the multiply-accumulates of convolutions and linear layers
    (1 MAC = 2 FLOP), those with padded zeros included. `intensity` is FLOP per byte of input,
    parameters and output.
    """

    layer: str
    kind: str
    rules: tuple[str, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    shape: Shape
    receptive_field: tuple[int, ...]
    jump: tuple[float, ...]
    start: tuple[float, ...]
    parameters: int
    macs: int
    activation_bytes: int
    intensity: float
    warnings: tuple[str, ...]

    def entry(self) -> dict[str, object]:
        """This row as an item of a manifest's `pyramid`."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "kernel": list(self.kernel),
            "stride": list(self.stride),
            "padding": [list(sides) for sides in self.padding],
            "dilation": list(self.dilation),
            "shape": list(self.shape),
            "receptive_field": list(self.receptive_field),
            "jump": list(self.jump),
            "parameters": self.parameters,
            "macs": self.macs,
        }


def pyramid(
    layers: Iterable[Layer],
    input_shape: Sequence[int],
    itemsize: int = 4,
    sources: Sequence[tuple[int, ...]] | None = None,
) -> list[Row]:
    """Follow a sample of `input_shape` (channels, then spatial sizes) through a stack of layers.

    `sources` names for each layer the positions of those that it reads, -1 for the input; by
    default each reads the one before it. Only a `Join` reads several. Every axis obeys the rules
    of `axis`; the receptive field is theoretical, not clipped to the input. `itemsize` is the bytes
    of one number. Raises LayerError where a layer does not fit.
    """
    layers = list(layers)
    read = sources or [(position - 1,) for position in range(len(layers))]
    shapes: list[Shape] = []
    fields: list[list[Field]] = []
    rows = []
    base = [Field() for _ in input_shape[1:]]
    for layer, positions in zip(layers, read, strict=True):
        shape = _joined(layer, [shapes[p] if p >= 0 else tuple(input_shape) for p in positions])
        before = [fields[p] if p >= 0 else base for p in positions]
        along = windows(layer, shape[1:])
        fields.append([_through(*axis) for axis in zip(along, *before, strict=True)])
        rows.append(_row(layer, shape, along, fields[-1], itemsize))
        shapes.append(rows[-1].shape)
    return rows


def _through(window: Window, *fields: Field) -> Field:
    return join(fields) if len(fields) > 1 else fields[0].through(window)


def _joined(layer: Layer, shapes: Sequence[Shape]) -> Shape:
    """The shape that a layer takes from the layers that it reads."""
    if not isinstance(layer, Join):
        (shape,) = shapes
        return shape
    concatenates = layer.operation == "concatenation"
    if len({shape[concatenates:] for shape in shapes}) > 1:
        raise LayerError(f"{layer.name}: a {layer.kind} of {' and '.join(map(str, shapes))}")
    channels = sum(shape[0] for shape in shapes) if concatenates else shapes[0][0]
    return (channels, *shapes[0][1:])


def _row(
    layer: Layer, shape: Shape, along: Sequence[Window], fields: Sequence[Field], itemsize: int
) -> Row:
    channels, weights, others = _parameters(layer, shape, along)
    output = (channels, *_outputs(layer.name, along, shape[1:]))
    positions = shape[1:] if isinstance(layer, TransposedConvolution) else output[1:]
    macs = weights * prod(positions)
    touched = itemsize * (prod(shape) + weights + others + prod(output))
    return Row(
        layer=layer.name,
        kind=layer.kind,
        rules=tuple(window.rule for window in along),
        kernel=tuple(window.kernel for window in along),
        stride=tuple(window.stride for window in along),
        padding=tuple((window.pads.before, window.pads.after) for window in along),
        dilation=tuple(window.dilation for window in along),
        shape=output,
        receptive_field=tuple(field.size for field in fields),
        jump=tuple(float(field.jump) for field in fields),
        start=tuple(float(field.start) for field in fields),
        parameters=weights + others,
        macs=macs,
        activation_bytes=itemsize * prod(output),
        intensity=2 * macs / touched,
        warnings=tuple(_warnings(along, fields, shape[1:])),
    )


def _parameters(layer: Layer, shape: Shape, along: Sequence[Window]) -> tuple[int, int, int]:
    """Output channels, weights (each used once per position), other parameters."""
    match layer:
        case Convolution() | TransposedConvolution():
            taps = prod(window.kernel for window in along)
            weights = taps * shape[0] * layer.channels // _groups(layer, shape)
            return layer.channels, weights, layer.channels * layer.bias
        case Linear():
            return layer.channels, prod(shape) * layer.channels, layer.channels * layer.bias
        case Embedding():
            return layer.channels, 0, layer.symbols * layer.channels
        case Normalization():
            return shape[0], 0, 2 * shape[0] * layer.affine
        case _:
            return shape[0], 0, 0


def _groups(layer: Convolution | TransposedConvolution, shape: Shape) -> int:
    if shape[0] % layer.groups or layer.channels % layer.groups:
        raise LayerError(
            f"{layer.name}: {layer.groups} groups must divide its {shape[0]} input channels "
            f"and its {layer.channels} output channels"
        )
    return layer.groups


def _outputs(name: str, along: Sequence[Window], sizes: Shape) -> tuple[int, ...]:
    outputs = tuple(window.output(size) for window, size in zip(along, sizes, strict=True))
    for axis, (window, size, output) in enumerate(zip(along, sizes, outputs, strict=True)):
        if output < 1:
            raise LayerError(
                f"{name}: kernel {window.kernel} (extent {window.extent}) with padding "
                f"{window.pads.before}+{window.pads.after} does not fit axis {axis} of size "
                f"{size}; the smallest size that fits is {window.smallest}"
            )
    return outputs


def _warnings(along: Sequence[Window], fields: Sequence[Field], sizes: Shape) -> Iterator[str]:
    per_axis = [
        [*window.warnings(size), *_gridding(window, field)]
        for window, field, size in zip(along, fields, sizes, strict=True)
    ]
    for text in dict.fromkeys(text for texts in per_axis for text in texts):
        axes = [str(axis) for axis, texts in enumerate(per_axis) if text in texts]
        yield text if len(axes) == len(per_axis) else f"axis {', '.join(axes)}: {text}"


def _gridding(window: Window, field: Field) -> Iterator[str]:
    if window.dilation > 1 and window.kernel > 1 and field.grid > 1:
        yield f"dilations share the factor {field.grid}: gridding"
