"""Checkpoint -> ONNX -> proofs -> artifact directory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convserve_models import calibrate, card, evaluate, explain, goldens, graph, manifest, network
from convserve_models.data import Dataset
from convserve_models.graph import Predictor, Transcriber
from convserve_models.recipe import Preprocess, Recipe
from convserve_models.tasks.classification import Floats
from convserve_models.zoo.wav2letter import Wav2Letter

PARITY = 1e-4
GRADIENT_PARITY = 1e-2
"""Of its length. Where rounding tips an activation over zero, the gradient jumps."""
Served = Predictor | Transcriber
Describe = Callable[[Path], dict[str, Any]]
"""An exported file -> the part of the manifest that depends on the task."""


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
    served, describe = SERVED[recipe.task](recipe, dataset, model, checkpoint.parent)
    preprocess, names = recipe.preprocess, served.outputs
    version = version or manifest.next_version(store / recipe.id)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = folder / "model.onnx"
        example = random_inputs(preprocess, 2)
        if preprocess.variable:
            example = example[:, : preprocess.steps[-1]["lengths"][0]]
        length = preprocess.variable
        graph.write(served, example, file, preprocess.input_name, *names, any_length=length)
        prove(served, preprocess, file)
        facts: dict[str, Any] = {
            "schema_version": manifest.SCHEMA_VERSION,
            "id": recipe.id,
            "version": version,
            **card.provenance(recipe, dataset, network.epochs_of(checkpoint)),
            **describe(file),
            "goldens": goldens.shipped(answer_of(served), preprocess, dataset.card.labels, folder),
            **card.architecture(recipe, model, random_inputs(preprocess, 1)),
        }
        manifest.write(facts, folder)
        return manifest.publish(folder, store / recipe.id / version)


def _classifier(
    recipe: Recipe, dataset: Dataset, model: nn.Sequential, folder: Path
) -> tuple[Served, Describe]:
    _, held_out = dataset.divide(recipe.held_out, recipe.seed)
    calibration = calibrate.calibrate(evaluate.logits(model, recipe, held_out), held_out.labels)

    def describe(file: Path) -> dict[str, Any]:
        facts = {
            **card.classification_interface(recipe, dataset.card.labels, calibration, file),
            **card.measured(recipe, dataset, calibration, file, model),
            "baselines": [card.linear_baseline(dataset, folder)],
        }
        facts["graphs"] |= explained(recipe, model, calibration.temperature, file)
        return facts

    return Predictor(model, calibration.temperature).eval(), describe


def _recogniser(
    recipe: Recipe, dataset: Dataset, model: nn.Sequential, _: Path
) -> tuple[Served, Describe]:
    def describe(file: Path) -> dict[str, Any]:
        seconds = cast(Wav2Letter, model[-1]).seconds
        return {
            **card.transcription_interface(recipe, dataset.card.labels, seconds, file),
            **card.recognised(recipe, dataset, file),
        }

    return Transcriber(model).eval(), describe


SERVED = {"classification": _classifier, "transcription": _recogniser}
"""What each task makes of a trained network: the graph's module, and what the card says of it."""


def explained(
    recipe: Recipe, model: nn.Sequential, temperature: float, predict: Path
) -> dict[str, Any]:
    """Write what explains the network beside its graph, and return the entry among the graphs.

    Of a network that looks at the mirror image too, what it says of the image alone is explained.
    Raises `ExportError` if the gradient is not torch's.
    """
    if recipe.preprocess.modality != "image":
        return {}
    alone = network.without_mirror(model) if recipe.mirrored else model
    predictor, inputs = Predictor(alone, temperature).eval(), random_inputs(recipe.preprocess, 4)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / predict.name
        graph.write(predictor, inputs, file, recipe.preprocess.input_name, *Predictor.outputs)
        entry = explain.write(onnx.load(file), predict)
    if entry:
        _prove_gradient(alone, temperature, predict.with_name(explain.FILE), inputs)
    return entry


def _prove_gradient(model: nn.Module, temperature: float, path: Path, inputs: Tensor) -> None:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: inputs.numpy()}
    target = np.zeros(len(inputs), np.int64)
    (found,) = session.run(["gradient"], {**feed, explain.TARGET: target})
    pixels = inputs.float().requires_grad_()
    (expected,) = torch.autograd.grad(model(pixels)[:, 0].sum() / temperature, pixels)
    gap = np.linalg.norm(found - expected.numpy()) / max(expected.norm().item(), 1e-12)
    if not gap <= GRADIENT_PARITY:
        raise ExportError(f"torch's gradient and the graph's differ by {gap:.2g} of their length")


def answer_of(served: Served) -> goldens.Answer:
    """The network as goldens ask it."""

    def answer(inputs: NDArray[Any]) -> NDArray[np.float32]:
        with torch.no_grad():
            said: NDArray[np.float32] = served(torch.from_numpy(inputs.copy()))[0].numpy()
        return np.exp(said) if isinstance(served, Transcriber) else said

    return answer


def random_inputs(preprocess: Preprocess, n: int, seed: int = 0) -> Tensor:
    """Inputs of the right shape and datatype, a batch of n."""
    random, shape = np.random.default_rng(seed), (n, *preprocess.input_shape)
    if preprocess.datatype == "FP32":
        inputs = random.standard_normal(shape, np.float32)
        for row in range(1, n):  # of unequal length, the first the longest
            inputs[row, -row * shape[1] // (2 * n) :] = np.nan
        return torch.from_numpy(inputs)
    datatype = np.dtype(preprocess.datatype.lower())
    return torch.from_numpy(random.integers(0, preprocess.input_values, shape).astype(datatype))


def prove(served: Served, preprocess: Preprocess, path: Path) -> None:
    """Raise `ExportError` unless the file is the network, and a batch of n is n batches of one."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = random_inputs(preprocess, 16, seed=1)
    rows = inputs.numpy()
    feed = preprocess.input_name
    together = session.run(None, {feed: rows})
    alone = zip(*(session.run(None, {feed: row[None]}) for row in rows), strict=True)
    with torch.no_grad():
        expected = [output.numpy() for output in served(inputs)]
    checks = {
        "torch and ONNX Runtime": expected,
        "batch of 16 and batches of 1": [np.concatenate(parts) for parts in alone],
    }
    if preprocess.in_words:
        padded = np.pad(rows, [(0, 0), (0, 9)])
        checks["texts with and without padding"] = session.run(None, {feed: padded})
    for what, others in checks.items():
        gap = max(_gap(*pair) for pair in zip(together, others, strict=True))
        if not gap <= PARITY:
            raise ExportError(f"{what} differ by {gap:.2g}, more than {PARITY}")


def _gap(found: Floats, expected: Floats) -> float:
    """The largest difference, relative to values above 1."""
    return float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max())
