"""What would answer wrongly is not served, and the message says where to look."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from convserve.engine.cpu import cpu_budget
from convserve.engine.decoders import Decoders
from convserve.errors import InvalidArtifact
from convserve.served_model import open_model
from convserve.settings import Settings
from convserve.telemetry import Telemetry
from convserve.verification import Verdict
from tests.artifacts import IMAGE, RESIZED, TEXT, edit, image_graph, picture


def verify(path: Path) -> Verdict:
    _, verdict = open_model(path, Settings(), cpu_budget(1), Decoders(1), Telemetry())
    return verdict


def golden(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["goldens"][1].update(changes)


def rename(manifest: dict[str, Any], old: str, new: str) -> None:
    labels = manifest["postprocess"]["labels"]
    labels[labels.index(old)] = new


def swap(manifest: dict[str, Any]) -> None:
    labels = manifest["postprocess"]["labels"]
    labels[0], labels[1] = labels[1], labels[0]


def test_what_is_whole_is_verified(store: Path) -> None:
    for name in (IMAGE, TEXT):
        verdict = verify(store / name / "1")
        assert verdict.goldens == 3
        assert verdict.worst < RESIZED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["preprocess"]["steps"][1].update(filter="nearest"), r"golden .*photo\.jpg"),
        (lambda m: m["preprocess"]["steps"][1].update(filter="bicubic"), r"golden .*photo\.jpg"),
        (lambda m: m["preprocess"]["steps"][1].update(shorter=9), r"golden .*native\.png"),
        (lambda m: m["preprocess"]["steps"].pop(1), r"golden .*photo\.jpg"),
        (lambda m: rename(m, "cat", "lion"), "expected 'cat' with .* got no such label"),
        (swap, r"golden .*: expected '(cat|dog)' with 0\.\d+ ± 0\.001, got 0\.\d+"),
        (golden(expected={"cat": 1.0}), r"golden .*photo\.jpg: expected 'cat' with 1\.0000"),
        (golden(input="samples/native.png"), r"golden .*native\.png"),
    ],
)
def test_skew_is_told_with_golden_and_remedy(
    store: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    path = store / IMAGE / "1"
    edit(path, change)
    with pytest.raises(InvalidArtifact, match=words) as caught:
        verify(path)
    assert "re-export the artifact" in caught.value.remedy


def test_channels_in_another_order_are_told(store: Path) -> None:
    path = store / IMAGE / "1"
    (path / "model.onnx").write_bytes(image_graph(order=(2, 1, 0)))
    edit(path, lambda manifest: None)
    with pytest.raises(InvalidArtifact, match=r"golden .*samples/\w+\.\w+: expected"):
        verify(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["inputs"][0].update(name="picture"), "states input picture .* none of that"),
        (lambda m: m["inputs"][0].update(datatype="FP32"), "has image UINT8"),
        (lambda m: m["inputs"][0].update(shape=[-1, 9, 8, 3]), r"has image UINT8 \[-1, 8, 8, 3\]"),
        (lambda m: m["inputs"][0].update(shape=[-1, 8, 8]), r"states input .* \[-1, 8, 8\]"),
        (lambda m: m["outputs"][0].update(name="p"), "states output p"),
        (lambda m: m["outputs"][0].update(shape=[-1, 5]), r"has probabilities FP32 \[-1, 4\]"),
        (lambda m: m["postprocess"]["labels"].append("bird"), "4 probabilities.*5 labels"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_the_graph_is_told(
    store: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    path = store / IMAGE / "1"
    edit(path, change)
    with pytest.raises(InvalidArtifact, match=words):
        verify(path)


def test_a_golden_that_is_no_picture_is_told(store: Path) -> None:
    path = store / IMAGE / "1"
    (path / "samples" / "photo.jpg").write_bytes(picture(300, 200, "JPEG")[:500])
    edit(path, lambda manifest: None)
    with pytest.raises(InvalidArtifact, match=r"golden .*photo\.jpg is refused: the image"):
        verify(path)


def graph_of(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(path / "model.onnx")
    change(model)
    onnx.save(model, path / "model.onnx")
    edit(path, lambda manifest: None)


def fix_the_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def spoil_the_weights(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer[-1]
    spoiled = np.full_like(numpy_helper.to_array(weights), np.nan)
    weights.CopyFrom(numpy_helper.from_array(spoiled, weights.name))


def mix_the_batch(model: onnx.ModelProto) -> None:
    """Rows are no longer independent: each is the mean over the batch."""
    (last,) = (node for node in model.graph.node if "probabilities" in node.output)
    last.output[0] = "alone"
    zero = numpy_helper.from_array(np.array([0], np.int64), "zero")
    model.graph.initializer.append(zero)
    mean = helper.make_node("ReduceMean", ["alone"], ["mean"], axes=[0], keepdims=1)
    none = helper.make_node("Mul", ["alone", "nought"], ["none"])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nought"))
    model.graph.node.extend(
        [mean, none, helper.make_node("Add", ["mean", "none"], ["probabilities"])]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (fix_the_batch, r"has image UINT8 \[1, 8, 8, 3\]"),
        (spoil_the_weights, r"golden samples/native\.png: .*not a number"),
        (mix_the_batch, "in a batch of 3: expected"),
    ],
)
def test_a_graph_that_cannot_be_served_is_told(
    store: Path, change: Callable[[onnx.ModelProto], object], words: str
) -> None:
    path = store / IMAGE / "1"
    graph_of(path, change)
    with pytest.raises(InvalidArtifact, match=words):
        verify(path)


def test_validate_tells_good_and_bad(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from convserve.cli import main

    assert main(["validate", str(store)]) == 0
    assert capsys.readouterr().out.count("ok ") == 2
    shutil.copytree(store / TEXT / "1", store / TEXT / "2")
    assert main(["validate", str(store)]) == 1
    out = capsys.readouterr().out
    assert out.count("ok ") == 2
    assert f"FAIL  {store / TEXT / '2'}" in out
    assert f"remedy: rename the directory to {TEXT}/1" in out
    assert main(["validate", str(store / IMAGE / "1")]) == 0
    assert main(["validate", str(store / "nothing")]) == 1
    assert "holds no artifact" in capsys.readouterr().out
