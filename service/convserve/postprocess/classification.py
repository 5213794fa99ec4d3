"""Probabilities → label, the most probable labels, the conformal set; score → in distribution."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convserve.errors import InferenceFailed, InvalidArtifact
from convserve.manifest import Manifest, Postprocess

# A probability is told in millionths, what float32 resolves; `round` to 6 digits takes three times
# as long.
PARTS = 1e6
TOP_K = 5
MANY = 128  # labels: from so many on, sorting all takes longer than finding out which matter


class Classification:
    """One row of probabilities [labels] → an answer."""

    def __init__(self, manifest: Manifest) -> None:
        facts = manifest.postprocess
        assert isinstance(facts, Postprocess)
        self.labels = facts.labels
        self._graph = manifest.graphs.predict.file
        self._output = manifest.outputs[0].name
        conformal = facts.conformal
        self._threshold = conformal.threshold if conformal else None
        self._strange = facts.out_of_distribution
        self._check_score(manifest)

    def row(self, outputs: dict[str, NDArray[Any]]) -> list[float]:
        """Return the probabilities; raises InferenceFailed if one is not a number."""
        probabilities: list[float] = outputs[self._output].tolist()
        if not math.isfinite(sum(probabilities)):  # a third of the time of looking at each
            raise InferenceFailed("the model gave a probability that is not a number")
        return probabilities

    def proof(self, outputs: dict[str, NDArray[Any]]) -> dict[str, float]:
        """Return label → probability; raises InvalidArtifact if there are more or less labels."""
        row = self.row(outputs)
        if len(row) != len(self.labels):
            raise InvalidArtifact(
                f"{self._graph} gives {len(row)} probabilities, "
                f"the manifest names {len(self.labels)} labels",
                "name one label for each output, in the order of the outputs",
            )
        return dict(zip(self.labels, row, strict=True))

    def searches(self, top_k: int | None) -> bool:
        """Tell whether an answer takes too long for the event loop: never."""
        return False

    def answer(self, outputs: dict[str, NDArray[Any]], top_k: int | None) -> dict[str, object]:
        """Return label, probability and top (most probable first).

        If the artifact is calibrated for them, also set and in_distribution.
        """
        row = self.row(outputs)
        best = _largest(outputs[self._output], row, top_k or TOP_K)
        top = [
            {"label": self.labels[i], "probability": round(row[i] * PARTS) / PARTS} for i in best
        ]
        answer: dict[str, object] = {**top[0], "top": top}
        if self._threshold is not None:
            members = [i for i in range(len(row)) if row[i] >= self._threshold]
            members.sort(key=row.__getitem__, reverse=True)
            answer["set"] = [self.labels[i] for i in members]
        if self._strange is not None:
            score: float = outputs[self._strange.output].item()
            answer["in_distribution"] = score <= self._strange.threshold
        return answer

    def _check_score(self, manifest: Manifest) -> None:
        if self._strange is None:
            return
        wanted = self._strange.output
        if wanted not in {output.name for output in manifest.outputs if output.shape == (-1,)}:
            raise InvalidArtifact(
                f"postprocess.out_of_distribution: {wanted!r} is no output of shape [-1]",
                "name an output of the graph that has one number for each input",
            )


def _largest(values: NDArray[Any], row: list[float], most: int) -> list[int]:
    """Return the places of the `most` largest of `values` [n], which `row` holds too.

    The largest first, equal ones in the order of their places.
    """
    places: Iterable[int] = range(len(row))
    if MANY <= len(row) > most:
        places = np.flatnonzero(values >= np.partition(values, -most)[-most]).tolist()
    return sorted(places, key=row.__getitem__, reverse=True)[:most]
