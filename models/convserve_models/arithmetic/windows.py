"""From a layer and the size of its input to the window along each axis."""

from convserve_models.arithmetic.axis import Direct, Pads, Picked, Transposed, Window, extent, pads
from convserve_models.arithmetic.layers import (
    Axes,
    Convolution,
    GlobalPooling,
    KMaxPooling,
    Layer,
    LayerError,
    Linear,
    Padding,
    Pooling,
    TransposedConvolution,
)

Sizes = tuple[int, ...]


def windows(layer: Layer, sizes: Sizes) -> tuple[Window, ...]:
    """The window of `layer` along each axis of an input of `sizes`.

    Raises LayerError where a field of the layer is out of range or made for other axes.
    """
    match layer:
        case Convolution():
            return tuple(Direct(*axis) for axis in _axes(layer, layer.stride, sizes))
        case Pooling():
            stride = layer.kernel if layer.stride is None else layer.stride
            axes = _axes(layer, stride, sizes)
            return tuple(Direct(*axis, pools=True, ceil=layer.ceil) for axis in axes)
        case TransposedConvolution():
            return tuple(_transposed(layer, sizes))
        case Linear() | GlobalPooling():
            pools = isinstance(layer, GlobalPooling)
            return tuple(Direct(size, 1, 1, Pads(0, 0, "valid"), pools) for size in sizes)
        case KMaxPooling():
            _per_axis(layer.name, "k", (layer.k,), sizes)
            return tuple(Picked(size, layer.k) for size in sizes)
        case _:
            return (Direct(1, 1, 1, Pads(0, 0, "valid")),) * len(sizes)


def _transposed(layer: TransposedConvolution, sizes: Sizes) -> list[Transposed]:
    strides = _per_axis(layer.name, "stride", layer.stride, sizes)
    extras = _per_axis(layer.name, "output_padding", layer.output_padding, sizes, least=0)
    upsampled = tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    axes = _axes(layer, layer.stride, upsampled)
    return [
        Transposed(*axis, _extra(layer, axis, extra))
        for axis, extra in zip(axes, extras, strict=True)
    ]


def _extra(layer: TransposedConvolution, axis: tuple[int, int, int, Pads], given: int) -> int:
    kernel, stride, dilation, _ = axis
    if given >= max(stride, dilation):
        raise LayerError(
            f"{layer.name}: output_padding {given} must be below {max(stride, dilation)}, "
            "the larger of stride and dilation"
        )
    missing = stride - extent(kernel, dilation) if layer.padding == "same" else 0
    return given + max(missing, 0)


def _axes(
    layer: Convolution | TransposedConvolution | Pooling, stride: Axes, sizes: Sizes
) -> list[tuple[int, int, int, Pads]]:
    kernels = _per_axis(layer.name, "kernel", layer.kernel, sizes)
    strides = _per_axis(layer.name, "stride", stride, sizes)
    dilations = _per_axis(layer.name, "dilation", layer.dilation, sizes)
    extents = tuple(map(extent, kernels, dilations))
    zeros = _pads(layer.name, layer.padding, sizes, extents, strides)
    return list(zip(kernels, strides, dilations, zeros, strict=True))


def _pads(name: str, padding: Padding, sizes: Sizes, extents: Sizes, strides: Sizes) -> list[Pads]:
    if isinstance(padding, str):
        return [pads(padding, *axis) for axis in zip(sizes, extents, strides, strict=True)]
    sides = (padding,) * len(sizes) if isinstance(padding, int) else padding
    zeros = [Pads(*side) if isinstance(side, tuple) else Pads(side, side) for side in sides]
    _per_axis(name, "padding", tuple(min(z.before, z.after) for z in zeros), sizes, least=0)
    return zeros


def _per_axis(name: str, field: str, value: Axes, sizes: Sizes, least: int = 1) -> Sizes:
    values = (value,) * len(sizes) if isinstance(value, int) else value
    if len(values) != len(sizes):
        raise LayerError(f"{name}: {field} has {len(values)} axes, the input has {len(sizes)}")
    if any(v < least for v in values):
        raise LayerError(f"{name}: {field} is {value}, it must be at least {least}")
    return values
