"""A trained network in integers of 8 bits: as good, described, and refused where it is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper

from convserve.settings import Settings
from convserve.validation import validate
from convserve_models import (
    cli,
    data,
    evaluate,
    export,
    manifest,
    quantize,
    recalibrate,
    recipes,
    train,
)
from convserve_models.data import UnusableData
from convserve_models.graph import OPSET
from convserve_models.tasks import classification
from tests.toys import IMAGE_RECIPE, images

DATASET, RECIPE = images(), IMAGE_RECIPE


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("quantize")
    checkpoint = train.train(RECIPE, DATASET, root=root / "runs")
    return export.export(RECIPE, DATASET, checkpoint, root / "store")


@pytest.fixture
def artifact(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recipes, "load", {RECIPE.id: RECIPE}.__getitem__)
    monkeypatch.setattr(data, "load", lambda _: DATASET)
    monkeypatch.setattr(quantize, "GAIN", 0.0)  # so small a network gains nothing
    return shutil.copytree(exported, tmp_path / exported.parent.name / "1")


def card_of(artifact: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((artifact / "manifest.json").read_text())
    return card


def change(artifact: Path, alter: Callable[[ModelProto], None]) -> None:
    file = artifact / "model.onnx"
    model = onnx.load(file)
    alter(model)
    onnx.save(model, file)
    facts = card_of(artifact)
    facts["graphs"] = {"predict": manifest.graph(file, OPSET)}
    manifest.write(facts, artifact)


def test_its_figures_are_those_of_its_file(artifact: Path) -> None:
    before = card_of(artifact)
    found = quantize.quantize(artifact)
    after = card_of(artifact)
    entry = after["graphs"].pop("int8")
    assert after == before
    said = evaluate.probabilities(artifact / entry["file"], RECIPE, DATASET.test)
    figures = {figure["name"]: figure["value"] for figure in entry["metrics"]}
    accuracy = classification.accuracy(said, DATASET.test.labels)
    assert figures["accuracy"] == pytest.approx(accuracy, abs=1e-5)
    assert found.integers == figures["accuracy"]
    names = [
        [figure["name"] for figure in figures] for figures in (entry["metrics"], after["metrics"])
    ]
    assert names[0] == names[1]
    assert entry["kept_in_float"] == []
    assert (
        quantize.golden_gap(after, artifact, RECIPE, artifact / entry["file"]) <= entry["tolerance"]
    )


def test_its_weights_have_seven_bits_and_each_channel_its_range(artifact: Path) -> None:
    quantize.quantize(artifact)
    model = onnx.load(artifact / quantize.FILE)
    integers = [
        numpy_helper.to_array(t)
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.INT8
    ]
    weights = [array for array in integers if array.ndim == 4]
    assert len(weights) == len(quantize.layers(artifact / "model.onnx"))
    for array in weights:
        assert -64 <= array.min() <= array.max() <= 64
        largest = np.abs(array.astype(int)).reshape(len(array), -1).max(axis=1)
        assert (largest >= 63).all()


@pytest.mark.parametrize("precision", ["auto", "float", "int8"])
def test_the_service_takes_it(artifact: Path, precision: Any) -> None:
    quantize.quantize(artifact)
    assert validate(Settings(precision=precision), artifact.parents[1])


def test_batches_do_not_change_its_answers(artifact: Path) -> None:
    quantize.quantize(artifact)
    session = ort.InferenceSession(artifact / quantize.FILE, providers=["CPUExecutionProvider"])
    pictures = np.asarray(DATASET.test.inputs)[:16]
    together = session.run(None, {"image": pictures})[0]
    alone = np.concatenate([session.run(None, {"image": one[None]})[0] for one in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def one_loud_channel(model: ModelProto) -> None:
    """The same network: what one channel says a thousand times as loud is heard so much softer."""
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][1:3]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node, places, factor in (
        (first, [(1, np.s_[0]), (2, np.s_[0])], 1e5),
        (second, [(1, np.s_[:, 0])], 1e-5),
    ):
        for place, where in places:
            tensor = constants[node.input[place]]
            array = numpy_helper.to_array(tensor).copy()
            array[where] *= factor
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def test_the_layer_that_does_harm_stays_in_float(artifact: Path) -> None:
    change(artifact, one_loud_channel)
    found = quantize.quantize(artifact)
    names = quantize.layers(artifact / "model.onnx")
    assert set(found.kept_in_float) & {names[1], names[2]}
    assert len(found.kept_in_float) <= 2
    assert card_of(artifact)["graphs"]["int8"]["kept_in_float"] == list(found.kept_in_float)
    assert found.floats - found.integers <= quantize.LOSS


@pytest.mark.parametrize(
    ("gate", "value", "why"),
    [
        ("LOSS", -1.0, "whatever stays in float"),
        ("GAP", 0.0, "whatever stays in float"),
        ("GAIN", 1000.0, "times less processor time"),
    ],
)
def test_what_is_not_worth_it_changes_nothing(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, gate: str, value: float, why: str
) -> None:
    before = {path: path.read_bytes() for path in artifact.rglob("*") if path.is_file()}
    monkeypatch.setattr(quantize, gate, value)
    monkeypatch.setattr(quantize, "layers", lambda _: ["node_Conv_1", "last"])
    with pytest.raises(SystemExit, match=why):
        cli.main(["quantize", str(artifact)])
    assert {path: path.read_bytes() for path in artifact.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["accuracy", "coverage"])
def test_what_fails_on_the_test_split_is_refused(artifact: Path, name: str) -> None:
    facts = card_of(artifact)
    for figure in facts["metrics"]:
        if figure["name"] == name:
            figure.update(value=1.5, interval=[1.4, 1.6])
    manifest.write(facts, artifact)
    with pytest.raises(quantize.NotWorthIt, match=name):
        quantize.quantize(artifact)


def test_without_its_data_nothing_is_quantized(artifact: Path) -> None:
    facts = card_of(artifact)
    del facts["recipe"]
    manifest.write(facts, artifact)
    with pytest.raises(UnusableData, match="none of the recipes"):
        quantize.quantize(artifact)


def test_other_thresholds_need_other_figures(artifact: Path) -> None:
    quantize.quantize(artifact)
    recalibrate.recalibrate(artifact)
    assert "int8" not in card_of(artifact)["graphs"]
    assert not (artifact / quantize.FILE).exists()
