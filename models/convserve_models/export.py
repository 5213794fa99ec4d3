"""Checkpoint -> ONNX -> proofs -> artifact directory."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convserve_models import (
    baseline,
    calibrate,
    evaluate,
    graph,
    manifest,
    network,
    pyramid,
    reference,
    zoo,
)  # fmt: skip
from convserve_models.data import Dataset, Split
from convserve_models.recipe import Recipe
from convserve_models.tasks import classification
from convserve_models.tasks.classification import Metric

PARITY = 1e-4
COVERAGE = 0.95
TOLERANCE = 2e-3
"""Of a golden's probabilities: wide enough for another CPU's arithmetic, narrower than a changed
resize filter, channel order or alphabet moves any of them."""


class ExportError(Exception):
    """The exported graph is not the trained network; nothing was written."""


class Predictor(nn.Module):
    """What is served: the network, its temperature and the softmax in one graph."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, inputs: Tensor) -> Tensor:
        """Raw arrays -> calibrated probabilities `[N, labels]`."""
        return torch.softmax(self.network(inputs) / self.temperature, dim=1)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the held-out samples said."""

    temperature: float
    threshold: float


def export(
    recipe: Recipe, dataset: Dataset, checkpoint: Path, store: Path, version: str | None = None
) -> Path:
    """Write `<store>/<recipe id>/<version>/` from a checkpoint and return it.

    `version` defaults to one more than the latest. Raises `ExportError` when torch and ONNX Runtime
    disagree, or when a row depends on its neighbours in the batch.
    """
    model = network.trained(recipe, dataset.card, checkpoint)
    training, held_out = dataset.divide(recipe.held_out, recipe.seed)
    calibration = _calibrate(model, recipe, held_out)
    predictor = Predictor(model, calibration.temperature).eval()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "artifact"
        (folder / "samples").mkdir(parents=True)
        example = torch.from_numpy(_random_inputs(recipe, 2))
        graph.write(predictor, example, folder / "model.onnx", _input_name(recipe), "probabilities")
        _prove(predictor, recipe, folder / "model.onnx")
        card = {
            "schema_version": manifest.SCHEMA_VERSION,
            "id": recipe.id,
            "version": version or next_version(store / recipe.id),
            **_provenance(recipe, dataset, len(training)),
            **_interface(recipe, dataset, calibration, folder / "model.onnx"),
            "metrics": _metrics(model, recipe, dataset, calibration, folder / "model.onnx"),
            "baselines": [_baseline(dataset, checkpoint.parent)],
            "goldens": _goldens(predictor, recipe, dataset.card.labels, folder),
            **_shape_of(model, recipe),
        }
        manifest.write(card, folder)
        return _publish(folder, store / recipe.id / str(card["version"]))


def next_version(artifact: Path) -> str:
    """One more than the largest version present."""
    present = [int(path.name) for path in artifact.glob("*") if path.name.isdigit()]
    return str(max(present, default=0) + 1)


def _calibrate(model: nn.Module, recipe: Recipe, held_out: Split) -> Calibration:
    logits = evaluate.logits(model, recipe, held_out)
    temperature = calibrate.temperature(logits, held_out.labels)
    probabilities = classification.softmax(logits, temperature)
    return Calibration(
        temperature, calibrate.conformal_threshold(probabilities, held_out.labels, COVERAGE)
    )


def _random_inputs(recipe: Recipe, n: int, seed: int = 0) -> NDArray[Any]:
    random = np.random.default_rng(seed)
    if recipe.preprocess.modality == "image":
        height, width = recipe.preprocess.steps[-1]["size"]
        return random.integers(0, 256, (n, height, width, 3), np.uint8)
    step = recipe.preprocess.steps[-1]
    return random.integers(0, len(step["alphabet"]) + 1, (n, step["length"]), np.int64)


def _prove(predictor: Predictor, recipe: Recipe, path: Path) -> None:
    """Parity on random inputs and batch invariance: a batch of n is n batches of one."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = _random_inputs(recipe, 16, seed=1)
    feed = session.get_inputs()[0].name
    together = session.run(None, {feed: inputs})[0]
    alone = np.concatenate([session.run(None, {feed: row[None]})[0] for row in inputs])
    with torch.no_grad():
        expected = predictor(torch.from_numpy(inputs)).numpy()
    for what, other in (
        ("torch and ONNX Runtime", expected),
        ("batch of 16 and batches of 1", alone),
    ):
        gap = float(np.abs(together - other).max())
        if not gap <= PARITY:
            raise ExportError(f"{what} differ by {gap:.2g}, more than {PARITY}")


def _input_name(recipe: Recipe) -> str:
    return "image" if recipe.preprocess.modality == "image" else "ids"


def _metrics(
    model: nn.Module, recipe: Recipe, dataset: Dataset, calibration: Calibration, path: Path
) -> list[dict[str, Any]]:
    """Figures of the ONNX file on the test split; `ece_uncalibrated` is the same at T = 1."""
    labels = dataset.test.labels
    probabilities = evaluate.probabilities(path, recipe, dataset.test)
    raw = classification.softmax(evaluate.logits(model, recipe, dataset.test))
    sets = calibrate.label_sets(probabilities, calibration.threshold)
    covered = float(sets[np.arange(len(labels)), labels].mean())
    n = len(labels)
    figures = [
        *classification.metrics(probabilities, labels, "test"),
        Metric(
            "ece_uncalibrated", classification.expected_calibration_error(raw, labels), n, "test"
        ),
        Metric("coverage", covered, n, "test", classification.wilson(covered, n)),
        Metric("set_size", float(sets.sum(axis=1).mean()), n, "test"),
    ]
    return [_plain(figure) for figure in figures]


def _plain(figure: Metric) -> dict[str, Any]:
    fields = {key: value for key, value in asdict(figure).items() if value is not None}
    fields["value"] = round(fields["value"], 5)
    if "interval" in fields:
        fields["interval"] = [round(end, 5) for end in fields["interval"]]
    return fields


def _baseline(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """The linear model's figure, kept beside the checkpoint: it changes only with the data."""
    kept = folder / f"baseline-{dataset.train.digest()[:16]}.json"
    if not kept.exists():
        name, figure = baseline.linear(dataset.train, dataset.test)
        kept.write_text(json.dumps(_plain(figure) | {"model": name}))
    fields: dict[str, Any] = json.loads(kept.read_text())
    return fields


def _goldens(
    predictor: Predictor, recipe: Recipe, labels: tuple[str, ...], folder: Path
) -> list[dict[str, Any]]:
    """Copy the samples and record what torch says of them after the reference byte work."""
    package = files("convserve_models")
    cards = json.loads((package / "samples" / "cards.json").read_text(encoding="utf-8"))
    goldens = []
    for card in cards[recipe.preprocess.modality]:
        path = f"samples/{card.pop('file')}"
        content = (package / path).read_bytes()
        (folder / path).write_bytes(content)
        row = _reference_answer(predictor, recipe, content)
        expected = {label: round(float(p), 6) for label, p in zip(labels, row, strict=True)}
        digest = manifest.sha256(content)
        goldens.append(
            {"input": path, "sha256": digest, **card, "expected": expected, "tolerance": TOLERANCE}
        )
    return goldens


def _reference_answer(predictor: Predictor, recipe: Recipe, content: bytes) -> NDArray[np.float32]:
    """Probabilities of one raw input, by Pillow and torch alone."""
    steps = recipe.preprocess.steps
    is_image = recipe.preprocess.modality == "image"
    array = reference.image(content, steps) if is_image else reference.text(content.decode(), steps)
    with torch.no_grad():
        row: NDArray[np.float32] = predictor(torch.from_numpy(array[None].copy())).numpy()[0]
    return row


def _provenance(recipe: Recipe, dataset: Dataset, trained_on: int) -> dict[str, Any]:
    card = dataset.card
    return {
        "title": recipe.title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": recipe.id,
        "revision": _revision(),
        "environment": {"python": platform.python_version()}
        | {package: installed(package) for package in ("torch", "onnx", "onnxruntime", "pillow")},
        "dataset": {
            "name": card.name, "licence": card.licence, "source": card.source,
            "variant": dataset.variant,
            "n": {"train": trained_on, "held_out": recipe.held_out, "test": len(dataset.test)},
            "checksum": {"train": dataset.train.digest(), "test": dataset.test.digest()},
        },
        "licence": "Apache-2.0",
        "notes": list(recipe.notes),
    }  # fmt: skip


def _revision() -> str:
    """The commit of the code, or 'unknown' outside a checkout."""
    here = os.fspath(Path(__file__).parent)
    answer = subprocess.run(
        ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return answer.stdout.strip() or "unknown"


def _interface(
    recipe: Recipe, dataset: Dataset, calibration: Calibration, path: Path
) -> dict[str, Any]:
    content = path.read_bytes()
    is_image = recipe.preprocess.modality == "image"
    file = {
        "file": path.name,
        "sha256": manifest.sha256(content),
        "bytes": len(content),
        "opset": graph.OPSET,
    }
    labels = list(dataset.card.labels)
    tensor = {
        "name": _input_name(recipe),
        "datatype": "UINT8" if is_image else "INT64",
        "shape": [-1, *_random_inputs(recipe, 1).shape[1:]],
    }
    return {
        "task": recipe.task,
        "graphs": {"predict": file},
        "inputs": [tensor],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(labels)]}],
        "preprocess": {
            "modality": recipe.preprocess.modality,
            "steps": [dict(step) for step in recipe.preprocess.steps],
        },
        "collate": {"kind": "stack"},
        "postprocess": {
            "kind": "classification",
            "labels": labels,
            "temperature": round(calibration.temperature, 5),
            "conformal": {"coverage": COVERAGE, "threshold": round(calibration.threshold, 6)},
        },
        "limits": {"max_batch_size": recipe.max_batch_size},
    }


def _shape_of(model: nn.Module, recipe: Recipe) -> dict[str, Any]:
    """The architecture and its pyramid."""
    rows = pyramid.pyramid_of(model, torch.from_numpy(_random_inputs(recipe, 1)))
    return {
        "architecture": {
            "name": recipe.architecture,
            "parameters": sum(p.numel() for p in model.parameters()),
            "macs": sum(row.macs for row in rows),
            "paper": vars(zoo.architecture(recipe.architecture))["paper"],
            "arguments": json.loads(json.dumps(dict(recipe.arguments))),
        },
        "pyramid": [row.entry() for row in rows],
    }


def _publish(folder: Path, target: Path) -> Path:
    """Move the finished directory into the store in one step, replacing that version."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target
