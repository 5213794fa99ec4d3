"""Checkpoint -> ONNX -> proofs -> artifact directory."""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from convserve_models import calibrate, card, evaluate, graph, manifest, network, reference
from convserve_models.data import Dataset
from convserve_models.graph import Predictor
from convserve_models.recipe import Preprocess, Recipe

PARITY = 1e-4
TOLERANCE = 2e-3
"""Of a golden's probabilities: wide enough for another CPU's arithmetic, narrower than a changed
resize filter, channel order or alphabet moves any of them."""


class ExportError(Exception):
    """The exported graph is not the trained network; nothing was written."""


def export(
    recipe: Recipe, dataset: Dataset, checkpoint: Path, store: Path, version: str | None = None
) -> Path:
    """Write `<store>/<recipe id>/<version>/` from a checkpoint and return it.

    `version` defaults to one more than the latest. Raises `ExportError` when torch and ONNX Runtime
    disagree, or when a row depends on its neighbours in the batch.
    """
    model = network.trained(recipe, dataset.card, checkpoint)
    _, held_out = dataset.divide(recipe.held_out, recipe.seed)
    calibration = calibrate.calibrate(evaluate.logits(model, recipe, held_out), held_out.labels)
    predictor = Predictor(model, calibration.temperature).eval()
    version = version or next_version(store / recipe.id)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = folder / "model.onnx"
        example = random_inputs(recipe.preprocess, 2)
        graph.write(predictor, example, file, recipe.preprocess.input_name, "probabilities")
        prove(predictor, recipe.preprocess, file)
        facts = {
            "schema_version": manifest.SCHEMA_VERSION,
            "id": recipe.id,
            "version": version,
            **card.provenance(recipe, dataset),
            **card.interface(recipe, dataset, calibration, file),
            "metrics": card.metrics(recipe, dataset, calibration, file),
            "baselines": [card.linear_baseline(dataset, checkpoint.parent)],
            "goldens": _goldens(predictor, recipe.preprocess, dataset.card.labels, folder),
            **card.architecture(recipe, model, example[:1]),
        }
        manifest.write(facts, folder)
        return _publish(folder, store / recipe.id / version)


def next_version(artifact: Path) -> str:
    """One more than the largest version present."""
    present = [int(path.name) for path in artifact.glob("*") if path.name.isdigit()]
    return str(max(present, default=0) + 1)


def random_inputs(preprocess: Preprocess, n: int, seed: int = 0) -> Tensor:
    """Inputs of the right shape and datatype, a batch of n."""
    datatype = np.dtype(preprocess.datatype.lower())
    shape = (n, *preprocess.input_shape)
    values = np.random.default_rng(seed).integers(0, preprocess.input_values, shape)
    return torch.from_numpy(values.astype(datatype))


def prove(predictor: Predictor, preprocess: Preprocess, path: Path) -> None:
    """Raise `ExportError` unless the file is the network, and a batch of n is n batches of one."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = random_inputs(preprocess, 16, seed=1)
    rows = inputs.numpy()
    feed = preprocess.input_name
    together = session.run(None, {feed: rows})[0]
    alone = np.concatenate([session.run(None, {feed: row[None]})[0] for row in rows])
    with torch.no_grad():
        expected = predictor(inputs).numpy()
    for what, other in (
        ("torch and ONNX Runtime", expected),
        ("batch of 16 and batches of 1", alone),
    ):
        gap = float(np.abs(together - other).max())
        if not gap <= PARITY:
            raise ExportError(f"{what} differ by {gap:.2g}, more than {PARITY}")


def _goldens(
    predictor: Predictor, preprocess: Preprocess, labels: tuple[str, ...], folder: Path
) -> list[dict[str, Any]]:
    """Copy the samples and record what torch says of them after the reference byte work."""
    package = files("convserve_models")
    samples = json.loads((package / "samples" / "cards.json").read_text(encoding="utf-8"))
    (folder / "samples").mkdir()
    goldens = []
    for sample in samples[preprocess.modality]:
        path = f"samples/{sample.pop('file')}"
        content = (package / path).read_bytes()
        (folder / path).write_bytes(content)
        inputs = torch.from_numpy(reference.read(content, preprocess)[None].copy())
        with torch.no_grad():
            (row,) = predictor(inputs).tolist()
        expected = {label: round(p, 6) for label, p in zip(labels, row, strict=True)}
        facts = {"input": path, "sha256": manifest.sha256(content), **sample}
        goldens.append({**facts, "expected": expected, "tolerance": TOLERANCE})
    return goldens


def _publish(folder: Path, target: Path) -> Path:
    """Put the finished directory into the store, in place of what that version held."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target
