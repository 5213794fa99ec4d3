"""What an artifact says of itself: the parts of its manifest that are measured or looked up."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convserve_models import (
    baseline,
    calibrate,
    data,
    evaluate,
    graph,
    manifest,
    network,
    pyramid,
    recipes,
    zoo,
)
from convserve_models.calibrate import Calibration
from convserve_models.data import Dataset, UnusableData
from convserve_models.recipe import Recipe
from convserve_models.tasks import classification, transcription
from convserve_models.tasks.classification import Bin, Floats, Ints, Metric

Part = dict[str, Any]
Shapes = Mapping[str, Sequence[int]]
"""Of the outputs, by name; -1 is an axis of any size."""


def read(artifact: Path) -> tuple[Part, Recipe, Dataset]:
    """An artifact's manifest, the recipe that made it, and the data that it was trained on.

    Raises `UnusableData` if the data here are others.
    """
    facts: Part = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    if "recipe" not in facts:
        raise UnusableData(f"{artifact} was made by none of the recipes: its data are not known")
    recipe = recipes.load(facts["recipe"])
    dataset = data.load(recipe.dataset)
    if dataset.train.digest() != facts["dataset"]["checksum"]["train"]:
        raise UnusableData(f"{artifact} was trained on another {recipe.dataset} than is here")
    return facts, recipe, dataset


def provenance(recipe: Recipe, dataset: Dataset, epochs: int) -> Part:
    """Who made it, when, with what, from which data, in how many epochs."""
    stopped = f"training stopped after {epochs} of {recipe.epochs} epochs"
    packages = ("torch", "onnx", "onnxruntime", "pillow")
    trained_on = len(dataset.train) - recipe.held_out
    return {
        "title": recipe.title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": recipe.id,
        "revision": _revision(),
        "environment": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "dataset": {
            "name": dataset.card.name,
            "licence": dataset.card.licence,
            "source": dataset.card.source,
            "variant": dataset.variant,
            "n": {"train": trained_on, "held_out": recipe.held_out, "test": len(dataset.test)},
            "checksum": {"train": dataset.train.digest(), "test": dataset.test.digest()},
        },
        "licence": "Apache-2.0",
        "notes": [*recipe.notes, *([stopped] if epochs < recipe.epochs else [])],
    }


def interface(recipe: Recipe, path: Path, outputs: Shapes, postprocess: Part) -> Part:
    """What goes in, what comes out, and what the service does before and after."""
    preprocess = recipe.preprocess
    shape = [-1, *preprocess.input_shape]
    if preprocess.variable:
        shape[1] = -1
    return {
        "task": recipe.task,
        "graphs": {"predict": manifest.graph(path, graph.OPSET)},
        "inputs": [
            {"name": preprocess.input_name, "datatype": preprocess.datatype, "shape": shape}
        ],
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": list(shape)}
            for name, shape in outputs.items()
        ],
        "preprocess": {
            "modality": preprocess.modality,
            "steps": [dict(step) for step in preprocess.steps],
        },
        "collate": {"kind": "stack"},
        "postprocess": postprocess,
        "limits": {"max_batch_size": recipe.max_batch_size},
    }


def classification_interface(
    recipe: Recipe, labels: Sequence[str], calibration: Calibration, path: Path
) -> Part:
    """`interface` of a calibrated classifier."""
    outputs = {"probabilities": (-1, len(labels)), "energy": (-1,)}
    postprocess = {
        "kind": "classification",
        "labels": list(labels),
        "temperature": float(f"{calibration.temperature:.6g}"),
        "conformal": {
            "coverage": calibration.coverage,
            "threshold": round(calibration.threshold, 6),
        },
        "out_of_distribution": {
            "output": "energy",
            "coverage": calibration.coverage,
            "threshold": round(calibration.energy_threshold, 5),
        },
    }
    return interface(recipe, path, outputs, postprocess)


def transcription_interface(
    recipe: Recipe, labels: Sequence[str], seconds: float, path: Path
) -> Part:
    """`interface` of a recogniser whose positions follow each other by `seconds`."""
    outputs = {"log_probabilities": (-1, -1, 1 + len(labels))}
    postprocess = {"kind": "transcription", "labels": list(labels), "seconds": seconds}
    return interface(recipe, path, outputs, postprocess)


def recognised(recipe: Recipe, dataset: Dataset, path: Path) -> Part:
    """What the ONNX file attains on the test split, by its best paths."""
    found = evaluate.best_paths(path, recipe, dataset.test)
    figures = transcription.metrics(found, dataset.test.labels, "test")
    return {"metrics": [_plain(figure) for figure in figures]}


def architecture(recipe: Recipe, model: nn.Module, example: torch.Tensor) -> Part:
    """The network, its size and, unless it reads words, its pyramid."""
    rows = [] if recipe.preprocess.in_words else pyramid.pyramid_of(model, example)
    macs = sum(row.macs for row in rows) or counted_macs(model, example)
    return {
        "architecture": {
            "name": recipe.architecture,
            "parameters": sum(p.numel() for p in model.parameters()),
            "macs": macs * (1 + recipe.mirrored),
            "paper": zoo.architecture(recipe.architecture).paper,
            "arguments": json.loads(json.dumps(dict(recipe.arguments))),
        },
        **({"pyramid": [row.entry() for row in rows]} if rows else {}),
    }


@torch.no_grad()
def counted_macs(model: nn.Module, example: torch.Tensor) -> int:
    """Multiply-adds of the products of matrices and the convolutions alone, on `example`."""
    unknown_to_torch = {torch.ops.aten.mkldnn_rnn_layer: _operations_of_lstm}
    with FlopCounterMode(display=False, custom_mapping=unknown_to_torch) as counter:
        model(example)
    return int(counter.get_total_flops()) // 2


def _operations_of_lstm(
    read: Sequence[int], of_input: Sequence[int], of_state: Sequence[int], *_: Any, **__: Any
) -> int:
    """Of a layer's products, given the shapes of `[L, N, C]` and of its two weights."""
    return 2 * prod(read[:-1]) * (prod(of_input) + prod(of_state))


def measured(
    recipe: Recipe, dataset: Dataset, calibration: Calibration, path: Path, model: nn.Sequential
) -> Part:
    """What the ONNX file attains on the test split: figures, calibration curve, confusion."""
    probabilities, energy = evaluate.outputs(path, recipe, dataset.test)
    labels = dataset.test.labels
    return {
        "metrics": [
            *metrics(calibration, labels, probabilities, energy),
            *straight(recipe, dataset, model),
        ],
        "evaluation": {
            "split": "test",
            "reliability": [_bin(b) for b in classification.reliability(probabilities, labels)],
            "confusion": classification.confusion(probabilities, labels).tolist(),
        },
    }


def straight(recipe: Recipe, dataset: Dataset, model: nn.Sequential) -> list[Part]:
    """The accuracy without the mirror image, at half the cost, of a network that looks at both."""
    if not recipe.mirrored:
        return []
    n = len(dataset.test)
    said = evaluate.logits(network.without_mirror(model), recipe, dataset.test)
    rate = classification.accuracy(said, dataset.test.labels)
    return [_plain(Metric("accuracy_straight", rate, n, "test", classification.wilson(rate, n)))]


def metrics(
    calibration: Calibration, labels: Ints, probabilities: Floats, energy: Floats | None = None
) -> list[Part]:
    """Figures on the test split.

    `ece_uncalibrated` is the same at T = 1; `in_distribution` the share of inputs that are told so,
    by a graph that gives their energy.
    """
    n = len(labels)
    # log p = logits / T up to a constant, which softmax forgets.
    raw = classification.softmax(np.log(probabilities + 1e-30), 1 / calibration.temperature)
    ece_raw = classification.expected_calibration_error(raw, labels)
    sets = calibrate.label_sets(probabilities, calibration.threshold)
    covered = float(sets[np.arange(n), labels].mean())
    figures = [
        *classification.metrics(probabilities, labels, "test"),
        Metric("ece_uncalibrated", ece_raw, n, "test"),
        Metric("coverage", covered, n, "test", classification.wilson(covered, n)),
        Metric("set_size", float(sets.sum(axis=1).mean()), n, "test"),
    ]
    if energy is not None:
        inside = float((energy <= calibration.energy_threshold).mean())
        interval = classification.wilson(inside, n)
        figures.append(Metric("in_distribution", inside, n, "test", interval))
    return [_plain(figure) for figure in figures]


def linear_baseline(dataset: Dataset, folder: Path) -> Part:
    """The linear model's figure, kept in `folder`: it changes only with the data."""
    kept = folder / f"baseline-{dataset.train.digest()[:16]}.json"
    if not kept.exists():
        name, figure = baseline.linear(dataset.train, dataset.test)
        kept.write_text(json.dumps(_plain(figure) | {"model": name}))
    fields: Part = json.loads(kept.read_text())
    return fields


def _bin(samples: Bin) -> Part:
    rates = (round(rate, 5) for rate in (samples.confidence, samples.accuracy))
    return dict(zip(("confidence", "accuracy", "n"), (*rates, samples.n), strict=True))


def _plain(figure: Metric) -> Part:
    fields = {key: value for key, value in asdict(figure).items() if value is not None}
    fields["value"] = round(fields["value"], 5)
    if "interval" in fields:
        fields["interval"] = [round(end, 5) for end in fields["interval"]]
    return fields


def _revision() -> str:
    """The commit of the code, or 'unknown' outside a checkout."""
    here = os.fspath(Path(__file__).parent)
    command = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
