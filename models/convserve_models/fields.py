"""Where maps inside an ONNX graph lie in the picture: the centres of their receptive fields.

Windows without padding, and poolings that leave out a border, move them: small maps, stretched over
the whole picture, would show things where they are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from convserve_models.adjoint import Adjoint, NoAdjoint, attributes
from convserve_models.arithmetic.axis import Direct, Pads, extent, pads
from convserve_models.arithmetic.stack import Field, join

Fields = list[Field]
"""One for each axis of the picture."""


def fields(graph: Adjoint, maps: str, picture: Sequence[int]) -> Fields:
    """The receptive fields of `maps`, `[N, channels, H, W]`, in a picture of the sizes `picture`.

    Raises `NoAdjoint` where they cannot be followed through the graph.
    """
    found: dict[str, Fields] = {}
    for node in graph.forward:
        if reached := _reached(graph, node, found, picture):
            found[node.output[0]] = reached
    if maps not in found:
        raise NoAdjoint(f"where {maps} lies in the picture is not known")
    return found[maps]


def placement(field: Field, maps: int, picture: int) -> NDArray[np.float32]:
    """What each of so many maps' places gives each pixel along an axis, `[picture, maps]`.

    A pixel between two centres is given of both by its distance; before the first and behind the
    last one, what the nearest gives.
    """
    pixels = (np.arange(picture) - float(field.start)) / float(field.jump)
    gaps = np.clip(pixels, 0, maps - 1)[:, None] - np.arange(maps)
    return np.asarray(np.maximum(0, 1 - np.abs(gaps)), np.float32)


def _reached(
    graph: Adjoint, node: NodeProto, found: Mapping[str, Fields], picture: Sequence[int]
) -> Fields | None:
    """The fields of what a node computes: of windows, or else of what it takes of equal size."""
    if windows := _windows(graph, node):
        before = found.get(node.input[0], [])
        return [field.through(window) for field, window in zip(before, windows, strict=False)]
    size = _axes(graph, node.output[0])
    taken = [found[name] for name in node.input if name in found and _axes(graph, name) == size]
    if taken:
        return [
            fields[0] if len({*fields}) == 1 else join(fields)
            for fields in zip(*taken, strict=True)
        ]
    return [Field() for _ in size] if size == [*picture] else None


def _windows(graph: Adjoint, node: NodeProto) -> list[Direct]:
    """Of a convolution, a pooling or a padding, one for each axis."""
    if node.op_type == "Pad":
        before, after = np.split(graph.value(node.input[1]), 2)
        return [Direct(1, 1, 1, _sides(*at)) for at in zip(before[2:], after[2:], strict=True)]
    if node.op_type not in {"Conv", "MaxPool", "AveragePool"}:
        return []
    given = attributes(node)
    kernel = given.get("kernel_shape") or graph.value(node.input[1]).shape[2:]
    strides, dilations = (given.get(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    axes = list(zip(kernel, strides, dilations, strict=True))
    if given.get("auto_pad", b"").startswith(b"SAME"):
        sizes = zip(_axes(graph, node.input[0]), axes, strict=True)
        zeros = [pads("same", size, extent(k, d), s) for size, (k, s, d) in sizes]
    else:
        before, after = np.split(np.array(given.get("pads", [0, 0] * len(kernel))), 2)
        zeros = [_sides(*at) for at in zip(before, after, strict=True)]
    return [Direct(*axis, at) for axis, at in zip(axes, zeros, strict=True)]


def _sides(before: int, after: int) -> Pads:
    return Pads(int(before), int(after))


def _axes(graph: Adjoint, name: str) -> list[int]:
    """The sizes behind batch and channels; none where they are not fixed."""
    try:
        return graph.sizes(name)[1:]
    except NoAdjoint:
        return []
