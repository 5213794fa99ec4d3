"""Graphs beside the one that predicts: what they compute comes from the same weights, held once.

Such a file holds no weights: it points at their bytes in the predicting graph's file, which must
lie beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, external_data_helper, numpy_helper

from convserve_models import adjoint, manifest

SMALL = 1024
"""Bytes up to which a constant is held rather than pointed at."""


def write(model: ModelProto, predict: Path, file: str) -> dict[str, Any]:
    """Write `model` as `file` beside `predict`, which holds its weights; its entry in a manifest.

    Raises onnx.checker.ValidationError or onnx.shape_inference.InferenceError.
    """
    _point(model, predict)
    path = predict.with_name(file)
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    return manifest.graph(path, adjoint.opset(model))


def prune(model: ModelProto) -> None:
    """Keep what the outputs are made of, inputs too."""
    graph = model.graph
    used, kept = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    inputs = [value for value in graph.input if value.name in used]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.input.extend(inputs)
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def _point(model: ModelProto, predict: Path) -> None:
    """Replace weights by their place in the file `predict`, wherever they are found there."""
    content = predict.read_bytes()
    for tensor in model.graph.initializer:
        data = numpy_helper.to_array(tensor).tobytes()
        place = content.find(data) if len(data) > SMALL else -1
        if place < 0:
            continue
        tensor.ClearField("float_data")
        tensor.raw_data = data
        external_data_helper.set_external_data(tensor, predict.name, offset=place, length=len(data))
        tensor.ClearField("raw_data")
