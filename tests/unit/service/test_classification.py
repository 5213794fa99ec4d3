import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.artifact import read_manifest
from convserve.errors import InferenceFailed, InvalidArtifact
from convserve.manifest import Conformal, Manifest, OutOfDistribution
from convserve.postprocess.classification import Classification
from tests.artifacts import IMAGE, IMAGE_LABELS

ROWS = st.lists(st.floats(0, 1, width=32), min_size=len(IMAGE_LABELS), max_size=len(IMAGE_LABELS))


@pytest.fixture(scope="module")
def manifest(pristine_store: Path) -> Manifest:
    return read_manifest(pristine_store / IMAGE / "1")


def outputs(row: list[float]) -> dict[str, Any]:
    return {"probabilities": np.array(row, np.float32), "brightness": np.float32(0)}


@given(row=ROWS, top_k=st.integers(1, len(IMAGE_LABELS)))
def test_top_is_the_most_probable_labels_in_order(
    manifest: Manifest, row: list[float], top_k: int
) -> None:
    answer = Classification(manifest).answer(outputs(row), top_k)
    pairs = sorted(zip(row, IMAGE_LABELS, strict=True), key=lambda pair: -pair[0])
    expected = [{"label": label, "probability": round(p, 6)} for p, label in pairs[:top_k]]
    assert answer["top"] == expected
    assert {key: answer[key] for key in ("label", "probability")} == expected[0]


@given(
    row=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20).map(lambda some: some * 20),
    top_k=st.integers(1, 400),
)
def test_of_many_labels_the_most_probable_are_in_order(
    manifest: Manifest, row: list[float], top_k: int
) -> None:
    labels = [str(place) for place in range(len(row))]
    changed = manifest.postprocess.model_copy(update={"labels": labels, "conformal": None})
    classification = Classification(manifest.model_copy(update={"postprocess": changed}))
    top = classification.answer(outputs(row), min(top_k, len(row)))["top"]
    best = sorted(range(len(row)), key=lambda place: (-row[place], place))[:top_k]
    assert top == [{"label": labels[i], "probability": round(row[i], 6)} for i in best]


@given(row=ROWS, threshold=st.floats(0, 1))
def test_the_set_is_every_label_over_the_threshold(
    manifest: Manifest, row: list[float], threshold: float
) -> None:
    conformal = Conformal(coverage=0.9, threshold=threshold)
    changed = manifest.postprocess.model_copy(update={"conformal": conformal})
    classification = Classification(manifest.model_copy(update={"postprocess": changed}))
    members = classification.answer(outputs(row), None)["set"]
    assert isinstance(members, list)
    probability = dict(zip(IMAGE_LABELS, row, strict=True))
    assert set(members) == {label for label, p in probability.items() if p >= threshold}
    assert members == sorted(members, key=probability.__getitem__, reverse=True)


def test_without_calibration_there_is_no_set(manifest: Manifest) -> None:
    changed = manifest.postprocess.model_copy(update={"conformal": None})
    classification = Classification(manifest.model_copy(update={"postprocess": changed}))
    assert "set" not in classification.answer(outputs([0.1, 0.2, 0.3, 0.4]), None)


@given(row=ROWS, score=st.floats(width=32), threshold=st.floats(-1e3, 1e3))
def test_in_distribution_is_a_score_of_at_most_the_threshold(
    manifest: Manifest, row: list[float], score: float, threshold: float
) -> None:
    limit = OutOfDistribution(output="brightness", coverage=0.9, threshold=threshold)
    changed = manifest.postprocess.model_copy(update={"out_of_distribution": limit})
    classification = Classification(manifest.model_copy(update={"postprocess": changed}))
    given = outputs(row) | {"brightness": np.float32(score)}
    assert classification.answer(given, None)["in_distribution"] is (score <= threshold)


def test_without_a_score_nothing_is_said_of_the_distribution(manifest: Manifest) -> None:
    changed = manifest.postprocess.model_copy(update={"out_of_distribution": None})
    classification = Classification(manifest.model_copy(update={"postprocess": changed}))
    assert "in_distribution" not in classification.answer(outputs([0.1, 0.2, 0.3, 0.4]), None)


@pytest.mark.parametrize("output", ["novelty", "probabilities"])
def test_a_score_that_the_graph_does_not_give_is_refused(manifest: Manifest, output: str) -> None:
    limit = OutOfDistribution(output=output, coverage=0.9, threshold=0)
    changed = manifest.postprocess.model_copy(update={"out_of_distribution": limit})
    with pytest.raises(InvalidArtifact, match=output):
        Classification(manifest.model_copy(update={"postprocess": changed}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_fails(manifest: Manifest, value: float) -> None:
    with pytest.raises(InferenceFailed):
        Classification(manifest).answer(outputs([0.5, value, 0.1, 0.1]), None)
