"""Explanations inside ONNX: a second graph beside the one that predicts, with the same weights.

Inputs: the picture, and the `target` (`int64 [N]`), which label to explain. Outputs:

- `cam`, `[N, H, W]`: the maps before the last pooling, weighted by what each adds to the label
  (Zhou et al., 1512.04150; for networks that end in an average or a maximum over positions), every
  place of them drawn where its receptive field has its centre
- `gradient` (Simonyan et al., 1312.6034), `deconvnet` (Zeiler & Fergus, 1311.2901) and `guided`
  (Springenberg et al., 1412.6806), `[N, H, W, channels]`: of the label's score, the logarithm of
  its probability up to a constant, by the picture's bytes; the last two only where every
  nonlinearity is a rectifier

One run computes every method; it costs about five runs of the predicting graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from convserve_models import beside, features, manifest
from convserve_models.adjoint import Adjoint, Method, NoAdjoint
from convserve_models.fields import fields, placement

FILE, TARGET, CAM = "explain.onnx", "target", "cam"
POOLINGS = {"ReduceMean", "ReduceMax", "GlobalAveragePool", "GlobalMaxPool"}


def write(model: ModelProto, predict: Path) -> dict[str, Any]:
    """Write what can be explained of `model` beside the file `predict`; the entries of the graphs.

    `model` takes `uint8 [N, H, W, channels]` and gives `probabilities` first, behind a softmax.
    `predict` holds its weights. Returns nothing where no method is defined; else also what shows
    the maps inside.
    """
    explained = explaining(model)
    if explained is None:
        return {}
    return {"explain": beside.write(explained, predict, FILE), **features.write(model, predict)}


def add(artifact: Path) -> bool:
    """Let an artifact carry the graphs beside that it has not; False where none can be written.

    What predicts stays as it is; the manifest is signed anew.
    """
    facts = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    graphs, predict = facts["graphs"], artifact / facts["graphs"]["predict"]["file"]
    if facts["preprocess"]["modality"] != "image":
        return False
    if "explain" in graphs:
        entry = features.write(onnx.load(artifact / graphs["explain"]["file"]), predict)
    else:
        entry = write(onnx.load(predict), predict)
    if not entry:
        return False
    graphs |= entry
    manifest.write(facts, artifact)
    return True


def explaining(model: ModelProto) -> ModelProto | None:
    """The graph with every method that is defined for it as an output, None if none is."""
    new = ModelProto()
    new.CopyFrom(model)
    graph = new.graph
    try:
        _refuse_taken_names(graph)
        back = Adjoint(new)
        score, pixels = _score(graph), _pixels(graph)
        signal = _chosen(back, score)
        outputs = _maps(back, score, signal, pixels)
    except NoAdjoint:
        return None
    if not outputs:
        return None
    del graph.output[:], graph.value_info[:]
    graph.output.extend(outputs)
    graph.input.append(helper.make_tensor_value_info(TARGET, TensorProto.INT64, ["batch"]))
    beside.prune(new)
    return new


def _refuse_taken_names(graph: onnx.GraphProto) -> None:
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    for name in (TARGET, CAM, *get_args(Method)):
        if name in taken:
            raise NoAdjoint(f"the graph has a tensor of the name {name}")


def _score(graph: onnx.GraphProto) -> str:
    """What the softmax is taken of."""
    for node in graph.node:
        if node.op_type == "Softmax" and graph.output[0].name in node.output:
            return str(node.input[0])
    raise NoAdjoint("the first output is no softmax")


def _pixels(graph: onnx.GraphProto) -> str:
    """The picture as numbers that can be differentiated by."""
    name = graph.input[0].name
    for node in graph.node:
        if node.op_type == "Cast" and name in node.input:
            return str(node.output[0])
    raise NoAdjoint("the picture is not cast to float")


def _chosen(back: Adjoint, score: str) -> str:
    """One at the target, nothing at other labels."""
    (labels,) = back.sizes(score)
    values, depth = back.constant([0, 1]), back.constant(labels, np.int64)
    return back.one("OneHot", TARGET, depth, values, axis=1)


def _maps(back: Adjoint, score: str, signal: str, pixels: str) -> Sequence[onnx.ValueInfoProto]:
    *picture, channels = back.sizes(pixels)
    found = []
    for method in (CAM, *get_args(Method)):
        before = len(back.graph.node)
        try:
            if method == CAM:
                map_, sizes = _activation(back, score, signal, picture), picture
            else:
                map_, sizes = back.carry(score, signal, pixels, method), [*picture, channels]
        except NoAdjoint:
            del back.graph.node[before:]
            continue
        found.append(_named(back, map_, method, *sizes))
    return found


def _activation(back: Adjoint, score: str, signal: str, picture: Sequence[int]) -> str:
    maps = _last_maps(back)
    sent = back.carry(score, signal, maps)
    positions, features = back.constant([2, 3], np.int64), back.constant([1], np.int64)
    weights = back.one("ReduceSum", sent, positions, keepdims=1)
    activation = back.one("ReduceSum", back.one("Mul", maps, weights), features, keepdims=0)
    axes = zip(fields(back, maps, picture), back.sizes(maps)[1:], picture, strict=True)
    rows, columns = (placement(*axis) for axis in axes)
    tall = back.one("MatMul", back.constant(rows), activation)
    return back.one("MatMul", tall, back.constant(columns.T))


def _last_maps(back: Adjoint) -> str:
    """What the last pooling over all positions is taken of."""
    for node in reversed(back.forward):
        if node.op_type in POOLINGS and len(back.sizes(node.input[0])) == 3:
            return str(node.input[0])
    raise NoAdjoint("no pooling over all positions")


def _named(back: Adjoint, tensor: str, name: str, *sizes: int) -> onnx.ValueInfoProto:
    back.graph.node.append(helper.make_node("Identity", [tensor], [name]))
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes])
