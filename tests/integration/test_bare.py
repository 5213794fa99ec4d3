"""A directory in Triton's layout, `<name>/1/model.onnx` and no manifest, is served as tensors."""

from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from convserve.app import create_app
from convserve.engine.cpu import cpu_budget
from convserve.engine.decoders import Decoders
from convserve.errors import InvalidArtifact
from convserve.served_model import ServedModel, open_model
from convserve.settings import Settings
from convserve.telemetry import Telemetry
from convserve.validation import validate
from tests.artifacts import build_image

Shape = list[str | int | None]
NAME = "Half-Net.v2"


def bare(store: Path, given: Shape, taken: Shape, kind: int = TensorProto.FLOAT) -> Path:
    """A graph that halves its input, stated with these shapes."""
    nodes = [helper.make_node("Div", ["x", "two"], ["y"])]
    two = helper.make_tensor("two", kind, [], [2])
    ends = [helper.make_tensor_value_info(n, kind, s) for n, s in (("x", given), ("y", taken))]
    graph = helper.make_graph(nodes, "half", ends[:1], ends[1:], [two])
    path = store / NAME / "1"
    path.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path / "model.onnx")
    return path


def opened(path: Path) -> ServedModel:
    return open_model(path, Settings(), cpu_budget(1), Decoders(1), Telemetry())[0]


@pytest.mark.parametrize("shape", [["n", 3], ["n", "length"], ["n"]])
def test_all_that_can_be_told_is_derived(tmp_path: Path, shape: Shape) -> None:
    path = bare(tmp_path, shape, shape)
    manifest = opened(path).artifact.manifest
    assert (manifest.id, manifest.version) == (NAME, "1")
    (given,), (taken,) = manifest.inputs, manifest.outputs
    assert given.shape == taken.shape == tuple(s if isinstance(s, int) else -1 for s in shape)
    assert (given.name, given.datatype, taken.name) == ("x", "FP32", "y")
    assert (manifest.preprocess.modality, manifest.postprocess.kind) == ("tensor", "tensors")
    assert manifest.limits.max_batch_size is None
    assert validate(Settings(), path)
    assert validate(Settings(), tmp_path)


def test_a_batch_axis_of_one_is_served_one_at_a_time(tmp_path: Path) -> None:
    model = opened(bare(tmp_path, [1, 3], [1, 3]))
    assert model.max_batch_size == 1


@pytest.mark.parametrize(
    ("given", "taken", "kind", "words"),
    [
        ([4, 3], [4, 3], TensorProto.FLOAT, r"first axis of 'x' \[4, 3\] is fixed at 4"),
        (["n", 3], [1, "n", 3], TensorProto.FLOAT, "does not load|first axis|fails on zeros"),
        ([], [], TensorProto.FLOAT, r"inputs\.0\.shape"),
        (["n", 3], ["n", 3], TensorProto.BFLOAT16, "does not load|bfloat16|datatype"),
    ],
)
def test_what_has_no_batch_axis_is_told(
    tmp_path: Path, given: Shape, taken: Shape, kind: int, words: str
) -> None:
    path = bare(tmp_path, given, taken, kind)
    with pytest.raises(InvalidArtifact, match=words):
        opened(path)
    assert not validate(Settings(), tmp_path)


def test_a_signed_directory_is_never_taken_for_a_bare_one(store: Path) -> None:
    path = build_image(store, "2")
    (path / "manifest.json").unlink()
    with pytest.raises(InvalidArtifact, match=r"manifest\.json cannot be read"):
        opened(path)


@pytest.mark.anyio
async def test_it_is_in_the_catalogue_and_refuses_pictures(tmp_path: Path) -> None:
    bare(tmp_path, ["n", 3], ["n", 3])
    app = create_app(Settings(store=tmp_path, cores=1))
    async with app.router.lifespan_context(app):
        repository = app.repository
        await repository.settled()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/readyz")).status_code == 200
            card = (await client.get(f"/v1/models/{NAME}")).json()
            assert (card["state"], card["modality"]) == ("ready", "tensor")
            assert card["manifest"]["inputs"][0]["shape"] == [-1, 3]
            for media in ("image/png", "application/json", "text/plain"):
                answer = await client.post(
                    f"/v1/models/{NAME}/predict", content=b"{}", headers={"Content-Type": media}
                )
                assert answer.status_code == 415
                assert "/v2/models/" in answer.json()["detail"]
