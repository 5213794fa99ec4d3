"""Null nets: what a request costs when the network costs nothing.

A classifier's artifact is copied with its preprocessing, labels and samples, and its graph is
replaced by one that answers the same for every input.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"UINT8": TensorProto.UINT8, "INT64": TensorProto.INT64, "FP32": TensorProto.FLOAT}
OPSET = 20


def null(artifact: Path, store: Path) -> str:
    """Put the null net of a classifier's artifact into `store`, as version 1; returns its id."""
    manifest: dict[str, Any] = json.loads((artifact / "manifest.json").read_text())
    manifest["id"] = name = f"null_{manifest['id']}"
    manifest["version"] = "1"
    folder = store / name / "1"
    shutil.copytree(artifact, folder, ignore=shutil.ignore_patterns("*.onnx", "manifest.*"))
    labels = manifest["postprocess"]["labels"]
    (output,) = [o for o in manifest["outputs"] if o["shape"] == [-1, len(labels)]]
    onnx.save(_graph(manifest["inputs"], output["name"], len(labels)), folder / "model.onnx")
    manifest["outputs"] = [output]
    manifest["graphs"] = {"predict": described(folder / "model.onnx", OPSET)}
    manifest["postprocess"] = {"kind": "classification", "labels": labels}
    for golden in manifest["goldens"]:
        golden["expected"] = dict.fromkeys(labels, 1 / len(labels))
    publish(manifest, folder)
    return name


def publish(manifest: dict[str, Any], folder: Path) -> None:
    """Write the manifest of an artifact and sign it."""
    text = json.dumps(manifest)
    (folder / "manifest.json").write_text(text)
    (folder / "manifest.sha256").write_text(f"{digest(text.encode())}  manifest.json\n")


def described(graph: Path, opset: int) -> dict[str, Any]:
    """Return what a manifest says of an ONNX file."""
    content = graph.read_bytes()
    facts = {"file": graph.name, "sha256": digest(content), "bytes": len(content)}
    return {**facts, "opset": opset}


def digest(content: bytes) -> str:
    """Return the SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _graph(inputs: list[dict[str, Any]], output: str, labels: int) -> onnx.ModelProto:
    """As many rows of equal probabilities as there are inputs."""
    row = np.full((1, labels), 1 / labels, np.float32)
    constants = {"row": row, "labels": np.array([labels]), "no": np.array([0])}
    nodes = [
        helper.make_node("Shape", [inputs[0]["name"]], ["shape"]),
        helper.make_node("Gather", ["shape", "no"], ["n"]),
        helper.make_node("Concat", ["n", "labels"], ["size"], axis=0),
        helper.make_node("Expand", ["row", "size"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "null",
        [_tensor(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in inputs],
        [_tensor(output, "FP32", [-1, labels])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _tensor(name: str, datatype: str, shape: list[int]) -> onnx.ValueInfoProto:
    sizes = [f"{name}_{axis}" if size == -1 else size for axis, size in enumerate(shape)]
    sizes[0] = "n"
    return helper.make_tensor_value_info(name, TYPES[datatype], sizes)
