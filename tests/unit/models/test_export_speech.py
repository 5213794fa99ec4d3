"""From a recogniser's checkpoint to an artifact that the service takes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from convserve import cli
from convserve_models import data, evaluate, export, network, recipes, reference
from convserve_models.data import Dataset, Split
from convserve_models.data.transcripts import encode
from convserve_models.recipe import Recipe
from convserve_models.tasks import transcription

Exported = tuple[Recipe, Dataset, Path]
SMALL = {"features": 12, "context": 16}


@pytest.fixture(scope="module", params=["wav2letter_fsdd", "wav2letter_an4"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An untrained network, as if stopped after the first epoch."""
    recipe = recipes.load(request.param)
    recipe = replace(recipe, arguments={**recipe.arguments, **SMALL}, held_out=1)
    dataset = _noise(recipe)
    root = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    state = {"model": network.build(recipe, dataset.card).state_dict(), "epoch": 1}
    torch.save(state, root / "checkpoint.pt")
    artifact = export.export(recipe, dataset, root / "checkpoint.pt", root / "store")
    return recipe, dataset, artifact


def _noise(recipe: Recipe) -> Dataset:
    random = np.random.default_rng(0)
    card = data.card(recipe.dataset)
    inputs: list[NDArray[Any]]
    if recipe.preprocess.modality == "audio":
        inputs = [random.integers(-9000, 9000, n).astype(np.int16) for n in (2000, 8000, 5000)]
    else:
        inputs = [random.standard_normal((n, 13), np.float32) for n in (30, 120, 77)]
    split = Split(inputs, encode(["one", "six two", "ten"], sorted({*" onesixtw", *card.labels})))
    return Dataset(card, "packed", split, split)


def card_of(artifact: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((artifact / "manifest.json").read_text())
    return card


def test_the_service_takes_it(exported: Exported) -> None:
    _, _, artifact = exported
    assert cli.main(["validate", str(artifact.parents[1])]) == 0


def test_the_graph_hears_what_the_network_hears(exported: Exported) -> None:
    recipe, dataset, artifact = exported
    checkpoint = artifact.parents[2] / "checkpoint.pt"
    model = network.trained(recipe, dataset.card, checkpoint)
    heard = transcription.greedy(evaluate.logits(model, recipe, dataset.test))
    assert evaluate.best_paths(artifact / "model.onnx", recipe, dataset.test) == heard
    figures = transcription.metrics(heard, dataset.test.labels, "test")
    stated = card_of(artifact)["metrics"]
    assert [m["name"] for m in stated] == ["ler", "wer", "exact"]
    assert [m["value"] for m in stated] == pytest.approx([f.value for f in figures], abs=1e-5)
    assert {m["n"] for m in stated} == {len(dataset.test)}


def test_goldens_repeat_with_any_padding(exported: Exported) -> None:
    recipe, _, artifact = exported
    card = card_of(artifact)
    session = ort.InferenceSession(artifact / "model.onnx", providers=["CPUExecutionProvider"])
    letters = ["", *card["postprocess"]["labels"]]
    for golden in card["goldens"]:
        array = reference.read((artifact / golden["input"]).read_bytes(), recipe.preprocess)
        longer = np.pad(array, [(0, 777)] + [(0, 0)] * (array.ndim - 1), constant_values=np.nan)
        (row,) = np.exp(session.run(None, {card["inputs"][0]["name"]: longer[None]})[0])
        for name, probability in golden["expected"].items():
            place, letter = name.split(" ", 1)
            said = row[int(place), letters.index(letter)]
            assert said == pytest.approx(probability, abs=golden["tolerance"])


def test_a_training_that_was_stopped_is_told(exported: Exported) -> None:
    recipe, _, artifact = exported
    assert card_of(artifact)["notes"] == [
        *recipe.notes,
        f"training stopped after 1 of {recipe.epochs} epochs",
    ]
