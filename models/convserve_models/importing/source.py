"""An ONNX file as it came: read without trusting it, and what is wrong with it before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_tensor,
    uses_external_data,
)

from convserve_models.importing.refusal import TORCH, Refusal

LARGEST = 2**31 - 1  # protobuf's own limit of a message
BEGINNINGS = {
    b"PK": "a zip archive: a PyTorch checkpoint, TorchScript or Keras file",
    b"\x80\x02": "a Python pickle: a PyTorch checkpoint",
    b"\x89HDF": "an HDF5 file: Keras weights",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"TFL3": "a TensorFlow Lite file",
    b"{": "JSON",
    b"<": "a web page: a download that went wrong",
    b"version https://git-lfs": "a Git LFS pointer, not the file: run git lfs pull",
}
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def read(path: Path) -> ModelProto:
    """Return the model with all of its weights in memory; raises Refusal."""
    content = _content(path)
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise _no_model(path, content) from None
    if not model.ir_version or not model.graph.node:
        raise _no_model(path, content)
    _check_operators(path, model)
    for tensor in _tensors(model.graph):
        _bring_in(path, tensor)
        _check_weights(path, tensor)
    return model


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise Refusal(
                "too_large",
                f"{path} has {path.stat().st_size:,} bytes, more than an ONNX file can hold",
                "export with external_data=True",
            )
        return path.read_bytes()
    except OSError as error:
        raise Refusal(
            "no_file", f"{path} cannot be read: {error.strerror}", "name the ONNX file"
        ) from None


def _no_model(path: Path, content: bytes) -> Refusal:
    if not content:
        return Refusal("empty", f"{path} is empty", "copy it again, or export it again")
    for beginning, kind in BEGINNINGS.items():
        if content.startswith(beginning) or content[4:8] == beginning:
            return Refusal("not_onnx", f"{path} is no ONNX file but {kind}", TORCH)
    if content.startswith(b"\x08"):  # ir_version, which exporters write first
        return Refusal(
            "truncated",
            f"{path} begins as an ONNX file and then breaks off or is damaged",
            "copy it again and compare its SHA-256, or export it again",
        )
    return Refusal("not_onnx", f"{path} is no ONNX file", TORCH)


def _check_operators(path: Path, model: ModelProto) -> None:
    functions = {(function.domain, function.name) for function in model.functions}
    versions = {opset.domain: opset.version for opset in model.opset_import}
    for node in _nodes(model.graph):
        if (node.domain, node.op_type) in functions:
            continue
        if node.domain not in DOMAINS:
            raise Refusal(
                "custom_operator",
                f"{path}: node {node.name!r} needs the operator {node.op_type!r} of "
                f"{node.domain!r}, which only that library has",
                "export with operators of the ONNX standard: leave out custom_opsets, "
                f"post-processing and plug-ins; {TORCH}",
            )
        if node.domain in {"", "ai.onnx"} and not onnx.defs.has(node.op_type):
            raise Refusal(
                "unknown_operator",
                f"{path}: node {node.name!r} needs {node.op_type!r}, which the ONNX standard "
                f"(opset {versions.get('', 'unstated')}) does not have",
                f"export with operators of the ONNX standard; {TORCH}",
            )


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inner in _inner(node):
            yield from _nodes(inner)


def _inner(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for inner in _inner(node):
            yield from _tensors(inner)


def _bring_in(path: Path, tensor: TensorProto) -> None:
    """Replace a reference to a file beside the model by the bytes in it."""
    if not uses_external_data(tensor):
        return
    # What the file says of other files is not believed before it is known to stay beside it.
    information = ExternalDataInfo(tensor)
    root = path.parent.resolve()
    file = root / information.location
    if Path(information.location).is_absolute() or not file.resolve().is_relative_to(root):
        raise Refusal(
            "external_data_escapes",
            f"{path}: the weights {tensor.name!r} point to {information.location!r}, outside of "
            "the model's own directory",
            f"keep the data file beside the model, or put all into one file; {TORCH}",
        )
    if not file.is_file():
        raise Refusal(
            "external_data_missing",
            f"{path}: the weights {tensor.name!r} are in {information.location!r}, which is not "
            "beside it",
            f"copy that file, too, or put all into one file; {TORCH}",
        )
    end = (information.offset or 0) + (information.length or 0)
    if end > file.stat().st_size:
        raise Refusal(
            "external_data_short",
            f"{path}: the weights {tensor.name!r} end at byte {end:,} of {information.location!r}, "
            f"which has {file.stat().st_size:,}",
            "copy the data file again and compare its SHA-256, or export again",
        )
    load_external_data_for_tensor(tensor, str(root))
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _check_weights(path: Path, tensor: TensorProto) -> None:
    try:
        onnx.checker.check_tensor(tensor)
        onnx.numpy_helper.to_array(tensor)
    except Exception as error:
        raise Refusal(
            "damaged_weights",
            f"{path}: the weights {tensor.name!r} are not what they state to be: {error}",
            "copy the file again and compare its SHA-256, or export it again",
        ) from None
