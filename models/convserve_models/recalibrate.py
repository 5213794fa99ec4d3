"""Thresholds of an artifact, fitted anew from its ONNX file: no checkpoint is needed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from convserve_models import calibrate, card, evaluate, explain, manifest
from convserve_models.calibrate import Calibration
from convserve_models.data import Dataset
from convserve_models.recipe import Recipe
from convserve_models.tasks.classification import Floats, Ints

ENERGY = "energy"


def recalibrate(artifact: Path) -> None:
    """Fit both thresholds on the samples that its training held out, and measure them on the test.

    What a classifier answers stays as it is; one without energy gets it as its second output. A
    graph of integers goes: quantize it again.
    Raises `UnusableData` if the data here are not those that it was trained on.
    """
    facts, recipe, dataset = card.read(artifact)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / artifact.name
        shutil.copytree(artifact, folder)
        if integers := facts["graphs"].pop("int8", None):  # its figures are of the old thresholds
            (folder / integers["file"]).unlink()
        graphs = _with_energy(folder / facts["graphs"]["predict"]["file"])
        facts |= _measured(recipe, dataset, facts, folder)
        facts["graphs"] |= graphs
        manifest.write(facts, folder)
        manifest.publish(folder, artifact)


def _measured(
    recipe: Recipe, dataset: Dataset, facts: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """The parts of the manifest that follow from the thresholds."""
    file = folder / facts["graphs"]["predict"]["file"]
    _, held_out = dataset.divide(recipe.held_out, recipe.seed)
    calibration = _fitted(facts, held_out.labels, *evaluate.outputs(file, recipe, held_out))
    told = evaluate.outputs(file, recipe, dataset.test)
    figures = card.metrics(calibration, dataset.test.labels, *told)
    names = {figure["name"] for figure in figures}
    others = [figure for figure in facts["metrics"] if figure["name"] not in names]
    labels = facts["postprocess"]["labels"]
    interface = card.classification_interface(recipe, labels, calibration, file)
    kept = facts["graphs"] | interface["graphs"]
    return interface | {"graphs": kept, "metrics": [*figures, *others]}


def _fitted(
    facts: dict[str, Any], labels: Ints, probabilities: Floats, energy: Floats
) -> Calibration:
    coverage = calibrate.COVERAGE
    return Calibration(
        facts["postprocess"]["temperature"],
        coverage,
        calibrate.conformal_threshold(probabilities, labels, coverage),
        calibrate.quantile(energy, coverage),
    )


def _with_energy(file: Path) -> dict[str, Any]:
    """Give the file the output if it lacks it; the entries of the graphs that changed by that."""
    model = onnx.load(file)
    if ENERGY in {output.name for output in model.graph.output}:
        return {}
    add_energy(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
    return explain.write(model, file)


def add_energy(model: ModelProto) -> None:
    """As `graph.Predictor` has it: minus the logarithm of the sum that the softmax divides by."""
    graph = model.graph
    (softmax,) = (node for node in graph.node if graph.output[0].name in node.output)
    axis = numpy_helper.from_array(np.array([1], np.int64), "energy.axis")
    names = [softmax.input[0], axis.name]
    graph.initializer.append(axis)
    graph.node.append(helper.make_node("ReduceLogSumExp", names, ["evidence"], keepdims=0))
    graph.node.append(helper.make_node("Neg", ["evidence"], [ENERGY]))
    batch = graph.output[0].type.tensor_type.shape.dim[0].dim_param
    graph.output.append(helper.make_tensor_value_info(ENERGY, TensorProto.FLOAT, [batch]))
