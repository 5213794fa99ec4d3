"""Proof, before a model is ready, that it answers as it did where it was trained."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convserve.artifact import Artifact
from convserve.engine import Arrays
from convserve.engine.session import Session, TensorSpec
from convserve.errors import ConvserveError, InferenceFailed, InvalidArtifact
from convserve.manifest import Golden, Tensor
from convserve.postprocess import Postprocess
from convserve.preprocess.prepared import Prepared, Preprocess
from convserve.stamp import Stamp

SKEW = (
    "re-export the artifact, or correct the manifest: its preprocessing or its labels are not "
    "those that the model was trained with"
)
RUNS = "export the graph again and run it with onnxruntime before serving it"
NUMPY = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "str"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many goldens were reproduced, and the largest difference of a probability."""

    goldens: int
    worst: float


class Inputs:
    """An artifact's goldens as the graph's inputs, each prepared once for all that ask."""

    def __init__(self, artifact: Artifact, preprocess: Preprocess) -> None:
        self._path, self._preprocess = artifact.path, preprocess
        self._prepared: dict[str, Prepared] = {}

    def of(self, golden: Golden) -> Prepared:
        """Return what becomes of its raw bytes; raises InvalidArtifact if they are refused."""
        if golden.input not in self._prepared:
            self._prepared[golden.input] = self._prepare(self._path / golden.input)
        return self._prepared[golden.input]

    def _prepare(self, file: Path) -> Prepared:
        try:
            return self._preprocess.peek(file.read_bytes()).finish()
        except ConvserveError as error:
            raise InvalidArtifact(f"golden {file} is refused: {error.detail}", SKEW) from None


@dataclass(frozen=True)
class Verifier:
    """The parts of a served model, put to the proof without its batcher."""

    artifact: Artifact
    inputs: Inputs
    session: Session
    run: Callable[[Sequence[Arrays]], Sequence[Arrays]]
    postprocess: Postprocess
    stamp: Stamp | None = None
    """Left by whoever has reproduced all; None trusts nobody."""
    tolerance: float | None = None
    """Of every golden's probabilities, instead of its own."""

    def verify(self) -> Verdict:
        """Reproduce every golden from its raw bytes, alone and in a batch; the first, if stamped.

        Raises InvalidArtifact naming the golden, the label, what was expected and what came.
        """
        manifest = self.artifact.manifest
        self._check_interface("input", manifest.inputs, self.session.inputs)
        self._check_interface("output", manifest.outputs, self.session.outputs)
        if not manifest.goldens:
            return self._check_runs()
        if self.stamp and self.stamp.there:
            return self._check(manifest.goldens[:1])
        verdict = self._check(manifest.goldens)
        if self.stamp:
            self.stamp.leave()
        return verdict

    def _check(self, goldens: Sequence[Golden]) -> Verdict:
        proofs = [(golden, self.inputs.of(golden)) for golden in goldens]
        worst = max(self._check_golden(golden, prepared) for golden, prepared in proofs)
        by_shape = sorted(proofs, key=_shapes)
        for _, group in groupby(by_shape, key=_shapes):
            worst = max(worst, self._check_batch(list(group)))
        return Verdict(len(proofs), worst)

    def warm_up(self, batch_size: int) -> None:
        """Run the largest batch once, so that no request pays for the first one."""
        if (example := self._example()) is not None:
            self.run([example] * batch_size)

    def _example(self) -> Arrays | None:
        """Return what a run may be tried with, None if that cannot be told from the graph."""
        manifest = self.artifact.manifest
        if manifest.goldens:
            return self.inputs.of(manifest.goldens[0]).inputs
        if any(-1 in tensor.shape[1:] for tensor in manifest.inputs):
            return None
        return {tensor.name: _zeros(tensor) for tensor in manifest.inputs}

    def _check_runs(self) -> Verdict:
        """Run once: of a graph that came without goldens, no more can be proved."""
        example = self._example()
        try:
            if example is not None:
                self.run([example])
        except Exception as error:
            raise InvalidArtifact(f"{self.session.path} fails on zeros: {error}", RUNS) from error
        return Verdict(0, 0.0)

    def _check_interface(
        self, what: str, stated: Iterable[Tensor], actual: Iterable[TensorSpec]
    ) -> None:
        specs = {spec.name: spec for spec in actual}
        for tensor in stated:
            spec = specs.pop(tensor.name, None)
            if spec is None or not _fits(tensor, spec):
                raise InvalidArtifact(
                    f"{self.session.path}: the manifest states {what} {_words(tensor)}, "
                    f"the graph has {_words(spec) if spec else 'none of that name'}",
                    "export the graph with a dynamic first axis and state what it takes and gives",
                )
        if specs and what == "input":
            raise InvalidArtifact(
                f"{self.session.path} has inputs that the manifest does not state: "
                f"{', '.join(map(_words, specs.values()))}",
                "state every input of the graph",
            )

    def _check_golden(self, golden: Golden, prepared: Prepared) -> float:
        row = self._rows(golden, [prepared])[0]
        return self._compare(golden, golden.expected, row, "")

    def _check_batch(self, proofs: Sequence[tuple[Golden, Prepared]]) -> float:
        rows = self._rows(proofs[0][0], [prepared for _, prepared in proofs])
        return max(
            self._compare(golden, golden.expected, row, f" in a batch of {len(proofs)}")
            for (golden, _), row in zip(proofs, rows, strict=True)
        )

    def _rows(self, golden: Golden, items: Sequence[Prepared]) -> list[dict[str, float]]:
        """Return name → probability for each item."""
        try:
            outputs = self.run([item.inputs for item in items])
            return [self.postprocess.proof(output) for output in outputs]
        except InvalidArtifact:
            raise
        except InferenceFailed as error:
            raise InvalidArtifact(f"golden {golden.input}: {error.detail}", SKEW) from None
        except Exception as error:
            raise InvalidArtifact(
                f"{self.session.path} fails on golden {golden.input}: {error}",
                "export the graph again, with a dynamic batch axis and the batch first",
            ) from error

    def _compare(
        self, golden: Golden, expected: dict[str, float], row: dict[str, float], how: str
    ) -> float:
        differences = {label: abs(row.get(label, -1.0) - p) for label, p in expected.items()}
        label = max(differences, key=differences.__getitem__)
        tolerance = self.tolerance or golden.tolerance
        if differences[label] <= tolerance:
            return differences[label]
        got = f"{row[label]:.4f}" if label in row else "no such label"
        raise InvalidArtifact(
            f"golden {self.artifact.path / golden.input}{how}: expected {label!r} with "
            f"{expected[label]:.4f} ± {tolerance:g}, got {got}",
            SKEW,
        )


def _zeros(tensor: Tensor) -> NDArray[Any]:
    """Return one item, without batch axis."""
    return np.zeros(tensor.shape[1:], NUMPY.get(tensor.datatype, tensor.datatype.lower()))


def _shapes(proof: tuple[Golden, Prepared]) -> list[tuple[int, ...]]:
    return [array.shape for array in proof[1].inputs.values()]


def _fits(stated: Tensor, actual: TensorSpec) -> bool:
    sizes = zip(stated.shape, actual.shape, strict=False)
    return (
        stated.datatype == actual.datatype
        and len(stated.shape) == len(actual.shape)
        and (actual.shape[0] == -1 or actual.shape[0] == stated.shape[0] == 1)
        and all(size in (-1, wanted) for wanted, size in sizes)
    )


def _words(tensor: Tensor | TensorSpec) -> str:
    return f"{tensor.name} {tensor.datatype} {list(tensor.shape)}"
