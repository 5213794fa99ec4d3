"""A torch module as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

OPSET = 20
LARGE = 4096
"""Numbers of a weight; of smaller ones the width does not matter."""


class Predictor(nn.Module):
    """What is served: the network, its temperature, the softmax and the energy in one graph."""

    outputs = ("probabilities", "energy")

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Raw arrays -> calibrated probabilities `[N, labels]` and energy `[N]`.

        The energy, -ln of the sum that softmax divides by, is high for inputs unlike those that the
        network was trained on (Liu et al., 2010.03759).
        """
        logits = self.network(inputs) / self.temperature
        return torch.softmax(logits, dim=1), -torch.logsumexp(logits, dim=1)


class Transcriber(nn.Module):
    """What is served of a recogniser: log probabilities `[N, L, 1 + labels]`."""

    outputs = ("log_probabilities",)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sound: Tensor) -> tuple[Tensor]:
        """Sound -> logarithms of the letters' probabilities, position by position."""
        return (torch.log_softmax(self.network(sound), dim=1).transpose(1, 2),)


def write(
    module: nn.Module,
    example: Tensor,
    path: Path,
    input_name: str,
    *output_names: str,
    any_length: bool = False,
) -> None:
    """Export `module`, which takes one tensor, with a dynamic batch axis.

    With `any_length` the axis after the batch is dynamic too, from the example's size on.
    `example` needs a batch of two or more: torch.export takes a size of one for a constant. The
    file is self-contained, checked, and free of stack traces.
    """
    axes = {0: torch.export.Dim("batch", min=1, max=4096)}
    if any_length:
        axes[1] = torch.export.Dim("length", min=example.shape[1], max=2**30)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision; we do not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own internals
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[input_name],
            output_names=output_names,
            dynamic_shapes=(axes,),
        )
    assert program is not None
    program.save(path, external_data=False)
    onnx.save(_cleaned(_narrowed(onnx.load(path))), path)


def _cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what the exporter wrote down about the machine and the source it ran on."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return model


def _narrowed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large weights that float16 holds exactly as such."""
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        half = values.astype(np.float16) if values.dtype == np.float32 else values
        if values.dtype != np.float32 or values.size < LARGE or not np.array_equal(values, half):
            continue
        name, narrow = weight.name, f"{weight.name}.half"
        weight.CopyFrom(numpy_helper.from_array(half, narrow))
        _widen(model.graph, narrow, name)
    return model


def _widen(graph: onnx.GraphProto, narrow: str, name: str) -> None:
    """Let `name` be the `narrow` weight as float32, which is made once, on loading.

    Of a table only the rows that a run looks up are widened: it stays as small in memory.
    """
    users = [(place, node) for place, node in enumerate(graph.node) if name in node.input]
    if not all(node.op_type == "Gather" and node.input[0] == name for _, node in users):
        graph.node.insert(0, _cast(narrow, name))
        return
    for place, node in reversed(users):
        rows = node.output[0]
        node.input[0], node.output[0] = narrow, f"{rows}.half"
        graph.node.insert(place + 1, _cast(f"{rows}.half", rows))


def _cast(narrow: str, wide: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [narrow], [wide], to=onnx.TensorProto.FLOAT)
