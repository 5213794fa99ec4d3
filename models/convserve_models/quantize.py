"""An artifact's network in integers of 8 bits: a graph beside that of floats, if it is worth it.

Static quantization (Jacob et al., 1712.05877) by ONNX Runtime: activations of 8 bits without sign,
each tensor with its own range, weights of 7 bits and a sign, each output channel with its own; the
ranges are those that samples of the training set reach. Seven bits, because processors without VNNI
add two products of 8 bits in 16, which eight bits overflow. What answers then is the same on every
processor.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from convserve_models import (
    adjoint,
    card,
    evaluate,
    goldens,
    manifest,
    network,
    reference,
)
from convserve_models.calibrate import Calibration
from convserve_models.card import Part
from convserve_models.data import Split
from convserve_models.recipe import Recipe
from convserve_models.tasks import classification
from convserve_models.tasks.classification import Floats

FILE = "int8.onnx"
SAMPLES = 512
BATCH = 32
LOSS = 0.003
"""Of accuracy, at most: on the held-out samples, and on the test split."""
GAIN = 1.2
"""Times less processor time than floats take, at least."""
ROUNDS = 15
GAP = 0.05
"""Of a golden's probabilities, at most; twice what is found is what the service tolerates."""
LAYERS = ("Conv", "Gemm", "MatMul")
OPERATORS = [*LAYERS, "Add", "GlobalAveragePool", "MaxPool", "Relu"]
"""What is computed in integers: what lies between the layers would else go back and forth."""
PROMISES = ("coverage", "in_distribution")


class NotWorthIt(Exception):
    """Integers lose too much, or gain too little; the artifact stays as it is."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was gained (times less processor time for one input) and lost."""

    gain: float
    floats: float
    integers: float
    n: int
    kept_in_float: tuple[str, ...]

    def __str__(self) -> str:
        kept = f", in float {', '.join(self.kept_in_float)}" if self.kept_in_float else ""
        return (
            f"accuracy {self.integers:.4f} instead of {self.floats:.4f} (n = {self.n}), "
            f"{self.gain:.1f} times less processor time{kept}"
        )


def quantize(artifact: Path) -> Quantized:
    """Add the graph of integers to a classifier's artifact, whose manifest is signed anew.

    Layers stay in float, the one that alone does most harm first, until the loss is small on the
    samples that training held out. Raises NotWorthIt, or `UnusableData` if the data here are not
    those that it was trained on.
    """
    facts, recipe, dataset = card.read(artifact)
    if facts["task"] != "classification":
        raise NotWorthIt(f"{artifact}: only of classifiers is told what integers cost")
    train, held_out = dataset.divide(recipe.held_out, recipe.seed)
    floats = artifact / facts["graphs"]["predict"]["file"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / artifact.name
        shutil.copytree(artifact, folder)
        integers = folder / FILE
        trial = _Trial(floats, integers, recipe, held_out, _drawn(recipe, train))
        kept = trial.settle(lambda: golden_gap(facts, artifact, recipe, integers) <= GAP)
        times = gain(floats, integers, trial.samples[:1])
        if times < GAIN:
            raise NotWorthIt(f"{artifact}: only {times:.2f} times less processor time")
        figures = measured(facts, recipe, dataset.test, integers)
        _check(artifact, facts, figures)
        facts["graphs"]["int8"] = {
            **manifest.graph(integers, adjoint.opset(onnx.load(integers))),
            "tolerance": _tolerance(golden_gap(facts, artifact, recipe, integers)),
            "kept_in_float": kept,
            "metrics": figures,
        }
        manifest.write(facts, folder)
        manifest.publish(folder, artifact)
    before, after = (_by_name(figures)["accuracy"] for figures in (facts["metrics"], figures))
    return Quantized(times, before["value"], after["value"], after["n"], tuple(kept))


def write(
    floats: Path,
    integers: Path,
    samples: NDArray[Any],
    *,
    but: Sequence[str] = (),
    only: Sequence[str] = (),
    bits: Literal[7, 8] = 7,
) -> None:
    """Write the graph `floats` in integers, with the ranges that `samples` `[N, …]` reach.

    `but` names nodes that stay in float, `only` those that alone do not (none: all); weights have
    so many `bits`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch) / floats.name
        # Folds normalisation into the convolution before it, which it could not in between.
        quant_pre_process(floats, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            integers,
            _Reader(onnx.load(ready).graph.input[0].name, samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            reduce_range=bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(but),
        )
    onnx.checker.check_model(integers, full_check=True)


def layers(path: Path) -> list[str]:
    """Names of the nodes with weights, from the input on."""
    return [node.name for node in onnx.load(path).graph.node if node.op_type in LAYERS]


def gain(floats: Path, integers: Path, inputs: NDArray[Any]) -> float:
    """How many times less processor time integers take, one thread; medians of turns."""
    taken = evaluate.seconds((floats, integers), inputs, ROUNDS)
    return float(np.median(taken[:, 0] / taken[:, 1]))


def golden_gap(facts: Part, artifact: Path, recipe: Recipe, graph: Path) -> float:
    """The largest difference from a golden's probabilities."""
    session, labels = evaluate.one_thread(graph), facts["postprocess"]["labels"]
    name = session.get_inputs()[0].name
    gaps: list[float] = []
    for golden in facts["goldens"]:
        content = (artifact / golden["input"]).read_bytes()
        (row,) = session.run(None, {name: reference.read(content, recipe.preprocess)[None]})[0]
        found = dict(zip(labels, row.tolist(), strict=True))
        gaps += [abs(found[label] - value) for label, value in golden["expected"].items()]
    return max(gaps)


def measured(facts: Part, recipe: Recipe, test: Split, graph: Path) -> list[Part]:
    """The manifest's figures, of another graph with the same thresholds."""
    told = evaluate.outputs(graph, recipe, test)
    postprocess = facts["postprocess"]
    conformal = postprocess["conformal"]
    limit = postprocess.get("out_of_distribution", {"threshold": 0.0})
    calibration = Calibration(
        postprocess["temperature"],
        conformal["coverage"],
        conformal["threshold"],
        limit["threshold"],
    )
    return card.metrics(calibration, test.labels, *told)


class _Trial:
    """Graphs of integers, written and judged until one is good enough."""

    def __init__(
        self, floats: Path, integers: Path, recipe: Recipe, held_out: Split, samples: NDArray[Any]
    ) -> None:
        self.floats, self.integers, self.samples = floats, integers, samples
        self._recipe, self._held_out = recipe, held_out
        self._accuracy = self._measure(floats)

    def settle(self, close: Callable[[], bool]) -> list[str]:
        """Write the graph; return the names of the layers that stay in float."""
        kept: list[str] = []
        write(self.floats, self.integers, self.samples)
        if self._good() and close():
            return kept
        for harmful in self._by_harm():
            kept.append(harmful)
            write(self.floats, self.integers, self.samples, but=kept)
            if self._good() and close():
                return kept
        raise NotWorthIt(f"{self.floats}: whatever stays in float, accuracy is lost")

    def _good(self) -> bool:
        return self._accuracy - self._measure(self.integers) <= LOSS

    def _measure(self, graph: Path) -> float:
        said = evaluate.probabilities(graph, self._recipe, self._held_out)
        return classification.accuracy(said, self._held_out.labels)

    def _by_harm(self) -> list[str]:
        """Layers in the order of how much each alone changes the answers to the samples."""
        exact = _answers(self.floats, self.samples)

        def harm(layer: str) -> float:
            write(self.floats, self.integers, self.samples, only=[layer])
            return float(np.abs(_answers(self.integers, self.samples) - exact).mean())

        return sorted(layers(self.floats)[:-1], key=harm, reverse=True)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples by batches, as ONNX Runtime asks for them."""

    def __init__(self, name: str, samples: NDArray[Any]) -> None:
        self._feeds: Iterator[dict[str, NDArray[Any]]] = (
            {name: samples[at : at + BATCH]} for at in range(0, len(samples), BATCH)
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def _drawn(recipe: Recipe, train: Split) -> NDArray[Any]:
    order = np.random.default_rng(recipe.seed).permutation(len(train)).astype(np.int64)
    drawn: NDArray[Any] = network.tensor(recipe, train.take(order[:SAMPLES])).numpy()
    return drawn


def _answers(graph: Path, samples: NDArray[Any]) -> Floats:
    session = evaluate.one_thread(graph)
    name = session.get_inputs()[0].name
    parts = [session.run(None, feed)[0] for feed in _Reader(name, samples)]
    return np.concatenate(parts)


def _check(artifact: Path, facts: Part, figures: Sequence[Part]) -> None:
    """Raise NotWorthIt unless integers are as often right, and keep what the thresholds promise."""
    before, after = _by_name(facts["metrics"]), _by_name(figures)
    loss = before["accuracy"]["value"] - after["accuracy"]["value"]
    if loss > LOSS + 1e-9:
        raise NotWorthIt(f"{artifact}: {100 * loss:.2f} points of accuracy lost on the test split")
    for name in PROMISES:
        if name in before:
            low, high = before[name]["interval"]
            if not low <= (value := after[name]["value"]) <= high:
                raise NotWorthIt(f"{artifact}: {name} {value:.4f} is not in {low:.4f}-{high:.4f}")


def _tolerance(gap: float) -> float:
    return max(goldens.TOLERANCE, ceil(2e4 * gap) / 1e4)


def _by_name(figures: Sequence[Part]) -> dict[str, Part]:
    return {figure["name"]: figure for figure in figures}
