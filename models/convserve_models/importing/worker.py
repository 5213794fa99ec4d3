"""The process that opens a foreign file. `python -m convserve_models.importing.worker`.

It reads a request from stdin as JSON, sets its own limits, fills the folder it is told and answers
on stdout as JSON: `{}` or a refusal's fields.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from convserve_models import adjoint, explain, features, goldens, manifest
from convserve_models.importing import interface, prove, request, source
from convserve_models.importing.adapt import IMAGE, PROBABILITIES, adapted
from convserve_models.importing.prove import Network
from convserve_models.importing.refusal import Refusal
from convserve_models.importing.request import Pixels, Request

LARGEST_BATCH = 32


def main() -> None:
    """Do what stdin says."""
    told = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (told["memory"], told["memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        make(Request(**told["request"]), Path(told["folder"]), told["version"])
        answer: dict[str, Any] = {}
    except Refusal as refusal:
        answer = refusal.fields()
    except MemoryError:
        answer = Refusal("memory", "there is too little memory", "raise --memory").fields()
    json.dump(answer, sys.stdout)


def make(asked: Request, folder: Path, number: str) -> None:
    """Write the artifact's files to `folder`; raises Refusal."""
    path, sample = Path(asked.network), Path(asked.sample)
    labels, pixels = request.read_labels(Path(asked.labels)), request.read_pixels(asked.preprocess)
    model = source.read(path)
    interface.session(path, model)  # what does not load as it is needs no further look
    found = interface.examine(path, model, pixels, asked.output)
    if not pixels.fixed:
        pixels = pixels.at(found.size[0] or pixels.height, found.size[1] or pixels.width)
    network = Network(path, model, found)
    images = prove.examples(prove.picture(sample, pixels))
    softmax = prove.needs_softmax(network, pixels, images)
    count = network.scores(network.session(pixels, softmax), images[:1]).shape[1]
    prove.check_labels(network, labels, count)
    prove.check_expected(network, pixels, labels, asked.expect, sample, softmax)
    final = adapted(model, found, pixels, softmax)
    final.graph.output[0].type.tensor_type.shape.dim[1].dim_value = count
    onnx.save(final, folder / "model.onnx")
    manifest.write(_facts(asked, network, final, pixels, labels, folder, number), folder)


def _facts(
    asked: Request,
    network: Network,
    final: onnx.ModelProto,
    pixels: Pixels,
    labels: tuple[str, ...],
    folder: Path,
    number: str,
) -> dict[str, Any]:
    preprocess = pixels.preprocess()
    shape = [-1, pixels.height, pixels.width, 3]
    packages = ("onnx", "onnxruntime", "pillow")
    weights = (int(np.prod(tensor.dims)) for tensor in network.model.graph.initializer)
    return {
        "schema_version": manifest.SCHEMA_VERSION,
        "id": asked.name,
        "version": number,
        "title": asked.title or f"{network.path.name}, {len(labels)} labels",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {p: version(p) for p in packages},
        "architecture": {
            "name": network.model.graph.name or "imported",
            "parameters": sum(weights),
        },
        "task": "classification",
        "graphs": {
            "predict": manifest.graph(folder / "model.onnx", adjoint.opset(final)),
            **_explained(final, folder / "model.onnx"),
        },
        "inputs": [{"name": IMAGE, "datatype": "UINT8", "shape": shape}],
        "outputs": [{"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(labels)]}],
        "preprocess": {
            "modality": preprocess.modality,
            "steps": [dict(step) for step in preprocess.steps],
        },
        "postprocess": {"kind": "classification", "labels": list(labels)},
        "goldens": _goldens(asked, folder, pixels, labels),
        "limits": {"max_batch_size": LARGEST_BATCH},
        **({"licence": asked.licence} if asked.licence else {}),
        "notes": [
            f"imported from {network.path.name}, SHA-256 "
            f"{manifest.sha256(network.path.read_bytes())}",
            "probabilities are as the network gives them: they were not calibrated here",
        ],
    }


def _explained(final: onnx.ModelProto, predict: Path) -> dict[str, Any]:
    """The explaining graph, of networks for which it can be written."""
    try:
        return explain.write(final, predict)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        for file in (explain.FILE, features.FILE):
            predict.with_name(file).unlink(missing_ok=True)
        return {}


def _goldens(
    asked: Request, folder: Path, pixels: Pixels, labels: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The sample that was given, then the project's own, which prove the byte work."""
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def answer(inputs: NDArray[Any]) -> NDArray[np.float32]:
        (row,) = session.run(None, {IMAGE: inputs})
        return np.asarray(row)

    sample = Path(asked.sample)
    content, preprocess = sample.read_bytes(), pixels.preprocess()
    with Image.open(sample) as opened:
        kind = opened.get_format_mimetype() or "image/jpeg"
        file = f"sample.{(opened.format or 'jpeg').lower()}"
    own = goldens.record(answer, preprocess, labels, folder, file, content)
    own |= {"media_type": kind, "note": f"{sample.name}, given as {asked.expect}"}
    return [own, *goldens.shipped(answer, preprocess, labels, folder)]


if __name__ == "__main__":
    main()
