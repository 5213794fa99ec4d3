"""The network with its numerics inside: bytes of pictures in, probabilities out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from convserve_models.importing.interface import Interface
from convserve_models.importing.request import Pixels

IMAGE, PROBABILITIES = "image", "probabilities"
OWN = "convserve/"
"""Before every name that is added, so that none meets one of the network's."""


def adapted(model: ModelProto, interface: Interface, pixels: Pixels, softmax: bool) -> ModelProto:
    """`uint8 [N,H,W,3]` -> float32 `[N, labels]`, through the network as it is.

    The batch is dynamic whatever was stated; whether the network bears that is proved by running.
    """
    new = ModelProto()
    new.CopyFrom(model)
    graph = new.graph
    _rename_interface(new, interface)
    before, constants = _before(interface, pixels)
    _forget(graph)
    body = list(graph.node)
    del graph.node[:], graph.value_info[:], graph.input[:], graph.output[:]
    graph.node.extend([*before, *body, *_after(softmax)])
    graph.initializer.extend(constants)
    shape: list[str | int | None] = ["batch", pixels.height, pixels.width, 3]
    graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape))
    labels: list[str | int | None] = ["batch", None]
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, labels))
    if not any(opset.domain in {"", "ai.onnx"} for opset in new.opset_import):
        new.opset_import.append(helper.make_opsetid("", 13))
    return new


def _before(interface: Interface, pixels: Pixels) -> tuple[list[NodeProto], list[TensorProto]]:
    nodes: list[NodeProto] = []
    constants: dict[str, NDArray[Any]] = {}
    last = IMAGE
    if pixels.channels == "BGR":
        constants["order"] = np.array([2, 1, 0], np.int64)
        nodes.append(helper.make_node("Gather", [last, OWN + "order"], [OWN + "turned"], axis=3))
        last = OWN + "turned"
    if interface.element != TensorProto.UINT8:  # a network of bytes normalises by itself
        # Row by row: over three numbers at a time ONNX Runtime takes ten times as long.
        constants["mean"] = np.tile(np.array(pixels.mean, np.float32) * 255, pixels.width)
        constants["scale"] = np.tile(1 / (np.array(pixels.std, np.float32) * 255), pixels.width)
        constants["rows"], constants["pixels"] = np.array([0, 0, -1]), np.array([0, 0, -1, 3])
        nodes += [
            helper.make_node("Cast", [last], [OWN + "float"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", [OWN + "float", OWN + "rows"], [OWN + "flat"]),
            helper.make_node("Sub", [OWN + "flat", OWN + "mean"], [OWN + "centred"]),
            helper.make_node("Mul", [OWN + "centred", OWN + "scale"], [OWN + "scaled"]),
            helper.make_node("Reshape", [OWN + "scaled", OWN + "pixels"], [OWN + "normal"]),
            helper.make_node("Cast", [OWN + "normal"], [OWN + "cast"], to=interface.element),
        ]
        last = OWN + "cast"
    way = [0, 1, 2, 3] if interface.channels_last else [0, 3, 1, 2]
    nodes.append(helper.make_node("Transpose", [last], [OWN + "input"], perm=way))
    return nodes, [numpy_helper.from_array(value, OWN + k) for k, value in constants.items()]


def _after(softmax: bool) -> list[NodeProto]:
    scores = OWN + "scores"
    cast = helper.make_node("Cast", [OWN + "output"], [scores], to=TensorProto.FLOAT)
    last = helper.make_node("Softmax", [scores], [PROBABILITIES], axis=1)
    return [cast, last if softmax else helper.make_node("Identity", [scores], [PROBABILITIES])]


def _rename_interface(model: ModelProto, interface: Interface) -> None:
    """Names of our own at both ends, wherever the graph or one inside it uses them."""
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    names = {interface.input: OWN + "input", interface.output: OWN + "output"}
    names |= {
        name: OWN + "theirs/" + name
        for name in (IMAGE, PROBABILITIES)
        if name in taken - names.keys()
    }
    _rename(model.graph, names)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for value in (*graph.initializer, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)


def _forget(graph: onnx.GraphProto) -> None:
    """Drop what the exporter wrote down about the machine and the source it ran on."""
    for part in (*graph.node, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    graph.doc_string = ""
