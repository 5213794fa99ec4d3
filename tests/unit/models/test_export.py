"""From a checkpoint to a signed artifact whose file is the trained network."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from convserve.settings import Settings
from convserve.validation import validate
from convserve_models import (
    calibrate,
    card,
    data,
    evaluate,
    export,
    manifest,
    network,
    recalibrate,
    recipes,
    reference,
    train,
)
from convserve_models.data import UnusableData
from convserve_models.graph import OPSET, Predictor
from convserve_models.tasks import classification
from tests.toys import TOYS

Exported = tuple[str, Path, Path]


@pytest.fixture(scope="module", params=sorted(TOYS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    root = tmp_path_factory.mktemp(request.param)
    recipe, make = TOYS[request.param]
    dataset = make()
    checkpoint = train.train(recipe, dataset, root=root / "runs")
    return request.param, checkpoint, export.export(recipe, dataset, checkpoint, root / "store")


def card_of(artifact: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((artifact / "manifest.json").read_text())
    return card


def test_manifest_is_valid_and_signed(exported: Exported) -> None:
    modality, _, artifact = exported
    card = card_of(artifact)
    manifest.validate(card)
    signature = (artifact / "manifest.sha256").read_text()
    digest = hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()
    assert signature == f"{digest}  manifest.json\n"
    assert (card["id"], card["version"]) == (artifact.parent.name, artifact.name)
    assert card["id"] == TOYS[modality][0].id
    for entry in [*card["graphs"].values(), *card["goldens"]]:
        path = artifact / entry.get("file", entry.get("input"))
        assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_graph_states_the_trained_network(exported: Exported) -> None:
    modality, checkpoint, artifact = exported
    recipe, make = TOYS[modality]
    dataset, card = make(), card_of(artifact)
    model = network.trained(recipe, dataset.card, checkpoint)
    logits = evaluate.logits(model, recipe, dataset.test)
    expected = classification.softmax(logits, card["postprocess"]["temperature"])
    found = evaluate.probabilities(artifact / "model.onnx", recipe, dataset.test)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    found_energy = evaluate.outputs(artifact / "model.onnx", recipe, dataset.test)[1]
    energy = calibrate.energy(logits, card["postprocess"]["temperature"])
    np.testing.assert_allclose(found_energy, energy, atol=1e-3)
    accuracy = next(m for m in card["metrics"] if m["name"] == "accuracy")
    assert accuracy["value"] == pytest.approx(classification.accuracy(found, dataset.test.labels))
    assert accuracy["n"] == len(dataset.test)
    confusion = np.array(card["evaluation"]["confusion"])
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(dataset.test.labels))
    assert confusion.trace() == round(accuracy["value"] * accuracy["n"])
    curve = card["evaluation"]["reliability"]
    assert sum(part["n"] for part in curve) == accuracy["n"]
    right = sum(part["n"] * part["accuracy"] for part in curve)
    assert right == pytest.approx(confusion.trace(), rel=1e-3)


def test_goldens_repeat_by_the_reference_path(exported: Exported) -> None:
    modality, _, artifact = exported
    card, preprocess = card_of(artifact), TOYS[modality][0].preprocess
    assert card["preprocess"]["steps"] == list(preprocess.steps)
    session = ort.InferenceSession(artifact / "model.onnx", providers=["CPUExecutionProvider"])

    for golden in card["goldens"]:
        array = reference.read((artifact / golden["input"]).read_bytes(), preprocess)
        (row,) = session.run(None, {card["inputs"][0]["name"]: array[None]})[0]
        assert list(golden["expected"]) == card["postprocess"]["labels"]
        np.testing.assert_allclose(row, list(golden["expected"].values()), atol=golden["tolerance"])


def test_interface_is_the_graphs(exported: Exported) -> None:
    _, _, artifact = exported
    card = card_of(artifact)
    session = ort.InferenceSession(artifact / "model.onnx", providers=["CPUExecutionProvider"])
    for stated, real in (
        (card["inputs"], session.get_inputs()),
        (card["outputs"], session.get_outputs()),
    ):
        assert [tensor["name"] for tensor in stated] == [tensor.name for tensor in real]
        assert [tensor["shape"][1:] for tensor in stated] == [tensor.shape[1:] for tensor in real]
        assert all(isinstance(tensor.shape[0], str) for tensor in real)
    assert card["pyramid"][-1]["shape"][0] == len(card["postprocess"]["labels"])
    assert sum(row["parameters"] for row in card["pyramid"]) == card["architecture"]["parameters"]


def test_graph_names_no_machine(exported: Exported) -> None:
    _, _, artifact = exported
    graph = onnx.load(artifact / "model.onnx").graph
    assert not any(node.doc_string or node.metadata_props for node in graph.node)
    assert str(Path.home()).encode() not in (artifact / "model.onnx").read_bytes()


def test_a_graph_that_is_not_the_network_is_refused(exported: Exported) -> None:
    modality, checkpoint, artifact = exported
    recipe, make = TOYS[modality]
    model = network.trained(recipe, make().card, checkpoint)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    with pytest.raises(export.ExportError, match="torch and ONNX Runtime differ"):
        export.prove(Predictor(model, 1.0), recipe.preprocess, artifact / "model.onnx")


def test_versions_count_up(tmp_path: Path) -> None:
    assert manifest.next_version(tmp_path / "new") == "1"
    for name in ("1", "9", "10", ".11.new", "notes"):
        (tmp_path / name).mkdir()
    assert manifest.next_version(tmp_path) == "11"


def test_a_manifest_that_breaks_the_schema_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(manifest.InvalidManifest, match="required"):
        manifest.write({"schema_version": 1}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_also_looks_at_the_mirror_image_says_what_that_costs(
    tmp_path: Path,
) -> None:
    recipe, make = TOYS["image"]
    once, dataset = replace(recipe, epochs=1), make()
    twice = replace(once, mirrored=True)
    plain = card.architecture(once, network.build(once, dataset.card), torch.zeros(1, 32, 32, 3))
    checkpoint = train.train(twice, dataset, root=tmp_path / "runs")
    artifact = export.export(twice, dataset, checkpoint, tmp_path / "store")
    told = card_of(artifact)
    assert told["architecture"]["macs"] == 2 * plain["architecture"]["macs"]
    assert told["architecture"]["parameters"] == plain["architecture"]["parameters"]
    figures = {figure["name"]: figure for figure in told["metrics"]}
    alone = network.without_mirror(network.trained(twice, dataset.card, checkpoint))
    said = evaluate.logits(alone, twice, dataset.test)
    straight = classification.accuracy(said, dataset.test.labels)
    assert figures["accuracy_straight"]["value"] == pytest.approx(straight, abs=1e-5)
    images = np.asarray(dataset.test.inputs)[:4]
    session = ort.InferenceSession(artifact / "model.onnx", providers=["CPUExecutionProvider"])
    here, there = (session.run(None, {"image": i})[0] for i in (images, images[:, :, ::-1].copy()))
    np.testing.assert_allclose(here, there, atol=1e-5)


def without_energy(artifact: Path) -> None:
    """As artifacts were before graphs told how unlike their data an input is."""
    file = artifact / "model.onnx"
    model = onnx.load(file)
    del model.graph.output[1], model.graph.node[-2:]  # what is left of it needs nothing of them
    onnx.save(model, file)
    facts = card_of(artifact)
    del facts["postprocess"]["out_of_distribution"], facts["outputs"][1]
    facts["metrics"] = [m for m in facts["metrics"] if m["name"] != "in_distribution"]
    facts["graphs"]["predict"] = manifest.graph(file, OPSET)
    manifest.write(facts, artifact)


@pytest.fixture
def registered(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, make = TOYS[exported[0]]
    monkeypatch.setattr(recipes, "load", {recipe.id: recipe}.__getitem__)
    monkeypatch.setattr(data, "load", lambda _: make())


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("before", [without_energy, lambda _: None], ids=["old", "whole"])
def test_an_artifact_is_calibrated_from_its_file_as_from_the_checkpoint(
    exported: Exported, tmp_path: Path, before: Callable[[Path], None]
) -> None:
    artifact = shutil.copytree(exported[2], tmp_path / exported[2].parent.name / "1")
    before(artifact)
    recalibrate.recalibrate(artifact)
    found, expected = card_of(artifact), card_of(exported[2])
    for block in ("conformal", "out_of_distribution"):
        assert found["postprocess"][block] == pytest.approx(
            expected["postprocess"][block], abs=2e-4
        )
    figures = [{m["name"]: m["value"] for m in facts["metrics"]} for facts in (found, expected)]
    assert figures[0] == pytest.approx(figures[1], abs=0.02)
    assert found["outputs"] == expected["outputs"]
    assert found["graphs"].keys() == expected["graphs"].keys()
    assert validate(Settings(), tmp_path)


@pytest.mark.usefixtures("registered")
def test_other_data_calibrate_nothing(exported: Exported, tmp_path: Path) -> None:
    artifact = shutil.copytree(exported[2], tmp_path / "1")
    facts = card_of(artifact)
    facts["dataset"]["checksum"]["train"] = "0" * 64
    manifest.write(facts, artifact)
    before = (artifact / "manifest.json").read_bytes()
    with pytest.raises(UnusableData, match="was trained on another"):
        recalibrate.recalibrate(artifact)
    assert (artifact / "manifest.json").read_bytes() == before
