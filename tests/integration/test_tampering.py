"""An artifact that was changed behind its back is not served; everything else is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest

from convserve.app import create_app
from convserve.cli import main
from convserve.settings import Settings
from tests.artifacts import IMAGE, TEXT, edit, image_graph

pytestmark = pytest.mark.anyio


def flip(name: str) -> Callable[[Path], None]:
    def change(artifact: Path) -> None:
        content = bytearray((artifact / name).read_bytes())
        content[len(content) // 2] ^= 1
        (artifact / name).write_bytes(content)

    return change


def relabel(manifest: dict[str, Any]) -> None:
    manifest["postprocess"]["labels"][1] = "wolf"


def refilter(manifest: dict[str, Any]) -> None:
    manifest["preprocess"]["steps"][1]["filter"] = "nearest"


def reorder_channels(artifact: Path) -> None:
    (artifact / "model.onnx").write_bytes(image_graph(order=(2, 1, 0)))
    edit(artifact, lambda manifest: None)


def move_weights_out(artifact: Path) -> None:
    file = artifact / "model.onnx"
    network = onnx.load(file)
    onnx.save(network, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    edit(artifact, lambda manifest: None)


# The change, the file that the message must name, and a word of its remedy.
TAMPERINGS = [
    pytest.param(flip("model.onnx"), "model.onnx", "restore", id="graph"),
    pytest.param(flip("manifest.json"), "manifest.json", "sign", id="manifest"),
    pytest.param(flip("manifest.sha256"), "manifest.sha256", "sign", id="signature"),
    pytest.param(flip("samples/native.png"), "native.png", "restore", id="png"),
    pytest.param(flip("samples/photo.jpg"), "photo.jpg", "restore", id="jpeg"),
    pytest.param(flip("samples/alpha.png"), "alpha.png", "restore", id="alpha"),
    pytest.param(lambda path: edit(path, relabel), "samples/", "re-export", id="label"),
    pytest.param(lambda path: edit(path, refilter), "photo.jpg", "re-export", id="filter"),
    pytest.param(move_weights_out, "weights.bin", "weights inside", id="weights"),
    pytest.param(reorder_channels, "samples/", "re-export", id="channels"),
]


@pytest.mark.parametrize(("tamper", "file", "remedy"), TAMPERINGS)
async def test_validate_and_the_server_tell_file_and_remedy(
    store: Path,
    tamper: Callable[[Path], None],
    file: str,
    remedy: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tamper(store / IMAGE / "1")

    assert main(["validate", str(store)]) == 1
    failure, advice = capsys.readouterr().out.splitlines()[:2]
    assert failure.startswith("FAIL")
    assert file in failure
    assert advice.strip().startswith("remedy: ")
    assert remedy in advice

    app = create_app(Settings(store=store, cores=1))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.repository.settled()
        assert (await client.get("/livez")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert file in ready.json()["detail"]
        assert "Retry-After" in ready.headers
        card = (await client.get(f"/v1/models/{IMAGE}")).json()
        assert card["state"] == "failed"
        assert file in card["reason"]
        refused = await client.post(f"/v1/models/{IMAGE}/predict", content=b"x")
        assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
        other = await client.post(f"/v1/models/{TEXT}/predict", json={"text": "a"})
        assert other.status_code == 200
