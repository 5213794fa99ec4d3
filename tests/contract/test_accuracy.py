"""The shipped artifacts' figures on the whole test split, asked through HTTP (make accuracy)."""

import base64
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from convserve_models import data
from convserve_models.data import Split
from convserve_models.tasks import classification
from tests.e2e.process import ROOT, STORE, await_ready, serving

DATA = data.data_root()
INSTANCES = 50
ECE_AT_MOST = 0.03
# artifact -> accuracy it must reach
BARS = {"all_cnn_cifar10": 0.88, "char_cnn_ag_news": 0.82, "vdcnn_ag_news": 0.82}


@pytest.mark.accuracy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(BARS))
def test_accuracy_through_the_service(name: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("convserve")), "serve", "--store", str(STORE)]
    with serving(command, cwd=ROOT, log=tmp_path / "log") as server:
        await_ready(server.client)
        card = server.client.get(f"/v1/models/{name}").json()["manifest"]
        test = data.load(card["dataset"]["name"], DATA).test
        assert test.digest() == card["dataset"]["checksum"]["test"]
        probabilities = _ask(server.client, f"/v1/models/{name}/predict", card, test)
    figures = {f.name: f for f in classification.metrics(probabilities, test.labels, "test")}
    for figure in figures.values():
        print(f"{name} {figure.name} {figure.value:.4f} n={figure.n} interval={figure.interval}")
    assert figures["accuracy"].value >= BARS[name]
    assert figures["ece"].value <= ECE_AT_MOST
    stated = {metric["name"]: metric["value"] for metric in card["metrics"]}
    for metric, figure in figures.items():
        assert figure.value == pytest.approx(stated[metric], abs=5e-4), metric


def _ask(client: httpx.Client, path: str, card: dict[str, Any], test: Split) -> np.ndarray:
    labels = card["postprocess"]["labels"]

    def part(start: int) -> list[list[float]]:
        instances = [_instance(raw) for raw in test.inputs[start : start + INSTANCES]]
        answer = client.post(path, json={"instances": instances, "top_k": len(labels)})
        assert answer.status_code == 200, answer.text
        return [_row(prediction, labels) for prediction in answer.json()["predictions"]]

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(part, range(0, len(test), INSTANCES)))
    return np.concatenate([np.array(rows) for rows in parts])


def _instance(raw: Any) -> str:
    if isinstance(raw, str):
        return raw
    file = io.BytesIO()
    Image.fromarray(raw).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def _row(prediction: dict[str, Any], labels: list[str]) -> list[float]:
    found = {entry["label"]: entry["probability"] for entry in prediction["top"]}
    return [found[label] for label in labels]
