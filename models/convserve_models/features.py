"""Feature maps inside ONNX: a graph beside the one that predicts, with the same weights.

Input: the picture. Outputs: `maps_1`, `maps_2` …, `[N, channels, H, W]`, what each convolution
answers to it, in the order of the network, behind its rectifier where it has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, shape_inference

from convserve_models import beside

FILE, MAPS = "features.onnx", "maps"


def write(model: ModelProto, predict: Path) -> dict[str, Any]:
    """Write what shows the maps of `model` beside the file `predict`; its entry among the graphs.

    `predict` holds its weights. Returns nothing for a network without convolutions of pictures.
    """
    seen = seeing(model)
    return {} if seen is None else {"features": beside.write(seen, predict, FILE)}


def seeing(model: ModelProto) -> ModelProto | None:
    """The graph with the maps of every convolution as its outputs, None if it has none."""
    new = shape_inference.infer_shapes(model)
    graph = new.graph
    sizes = {value.name: _sizes(value) for value in (*graph.value_info, *graph.output)}
    maps = [_rectified(graph, node.output[0]) for node in graph.node if node.op_type == "Conv"]
    shown = {name: sizes[name] for name in maps if len(sizes.get(name, ())) == 3}
    if not shown:
        return None
    del graph.output[:], graph.value_info[:]
    for number, (name, size) in enumerate(shown.items(), 1):
        output = f"{MAPS}_{number}"
        graph.node.append(helper.make_node("Identity", [name], [output]))
        info = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *size])
        graph.output.append(info)
    beside.prune(new)
    return new


def _sizes(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The sizes behind the batch; none where one is not fixed."""
    sizes = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim[1:])
    return sizes if all(sizes) else ()


def _rectified(graph: GraphProto, maps: str) -> str:
    """What becomes of the maps in a rectifier, themselves if they enter none."""
    rectifiers = (node for node in graph.node if node.op_type == "Relu" and maps in node.input)
    return next((str(node.output[0]) for node in rectifiers), maps)
