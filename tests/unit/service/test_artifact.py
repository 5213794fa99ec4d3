import copy
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from convserve.artifact import load_artifact
from convserve.errors import InvalidArtifact
from convserve.manifest import Manifest
from convserve_models import manifest as training_side
from tests.artifacts import IMAGE, TEXT, edit, explain_image

# Every optional part of the contract, so that mutations reach all of it.
FULL: dict[str, Any] = {
    "schema_version": 1,
    "id": "net_data",
    "version": "12",
    "title": "A network",
    "created": "2026-01-01T00:00:00Z",
    "architecture": {
        "name": "net",
        "parameters": 3,
        "macs": 4,
        "paper": "https://example.org",
        "arguments": {"width": 0.5, "nested": [None]},
    },
    "recipe": "net_data",
    "revision": "abc",
    "environment": {"torch": "2"},
    "dataset": {
        "name": "data",
        "licence": "MIT",
        "source": "https://example.org",
        "variant": "packed",
        "n": {"train": 5},
        "checksum": {"train": "0" * 64},
    },
    "task": "classification",
    "graphs": {
        "predict": {"file": "model.onnx", "sha256": "a" * 64, "bytes": 10, "opset": 17},
        "int8": {
            "file": "deep/int8.onnx",
            "sha256": "b" * 64,
            "bytes": 5,
            "opset": 17,
            "tolerance": 0.01,
            "kept_in_float": ["a layer"],
            "metrics": [{"name": "accuracy", "value": 0.9, "n": 9, "split": "test"}],
        },
    },
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
    "preprocess": {
        "modality": "image",
        "steps": [
            {"op": "decode"},
            {"op": "resize", "shorter": 8, "filter": "bicubic"},
            {"op": "center_crop", "size": [8, 8]},
            {"op": "lowercase"},
            {"op": "characters", "alphabet": "ab", "length": 4, "reverse": True},
        ],
    },
    "collate": {"kind": "stack"},
    "postprocess": {
        "kind": "classification",
        "labels": ["a", "b"],
        "temperature": 1.5,
        "conformal": {"coverage": 0.9, "threshold": 0.2},
    },
    "metrics": [
        {"name": "accuracy", "value": 0.9, "n": 10, "interval": [0.8, 0.95], "split": "test"}
    ],
    "baselines": [{"name": "accuracy", "value": 0.4, "n": 10, "split": "test", "model": "linear"}],
    "goldens": [
        {
            "input": "samples/a.png",
            "sha256": "c" * 64,
            "media_type": "image/png",
            "licence": "CC0-1.0",
            "note": "native size",
            "expected": {"a": 0.75, "b": 0.25},
            "tolerance": 0.01,
        }
    ],
    "limits": {"max_batch_size": 8, "max_length": 4, "max_pixels": 100},
    "pyramid": [
        {
            "layer": "conv1",
            "kind": "conv2d",
            "kernel": [3, 3],
            "stride": [1, 1],
            "padding": [[1, 1], [1, 1]],
            "dilation": [1, 1],
            "shape": [16, 8, 8],
            "receptive_field": [3, 3],
            "jump": [1, 1],
            "parameters": 448,
            "macs": 27648,
        }
    ],
    "licence": "Apache-2.0",
    "notes": ["half width"],
}
# No string ends in a newline: jsonschema's `$` overlooks it, ECMA 262's, which counts, does not.
JUNK = st.sampled_from(
    [None, True, 0, 1, 1.0, -1, 1.5, 2**40, "", "a", "A b", "../x", "1", "01", [], {}, ["a"],
     ["a", "a"], [1, 1], [0], {"op": "decode"}, {"op": "nothing"}, {"a": 2}, "0" * 64, "image"]
)  # fmt: skip


def test_both_sides_accept_the_full_manifest() -> None:
    training_side.validate(FULL)
    assert Manifest.model_validate_json(json.dumps(FULL)).id == "net_data"


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_both_sides_accept_and_refuse_the_same(data: st.DataObject) -> None:
    mutant = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(1, 2))):
        _mutate(mutant, data)
    assert _service_accepts(mutant) == _training_accepts(mutant), mutant


def _mutate(node: Any, data: st.DataObject) -> None:
    """Walk to a random place; remove, replace or add something there."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.integers(0, 3)):
            node = node[key]
            continue
        action = data.draw(st.sampled_from(["remove", "replace", "add", "repeat"]))
        if action == "remove":
            del node[key]
        elif action == "replace":
            node[key] = copy.deepcopy(data.draw(JUNK))
        elif isinstance(node, dict):
            node["surplus"] = copy.deepcopy(data.draw(JUNK))
        else:
            node.append(copy.deepcopy(node[key]))
        return


def _service_accepts(manifest: Any) -> bool:
    try:
        Manifest.model_validate_json(json.dumps(manifest))
    except ValidationError:
        return False
    return True


def _training_accepts(manifest: Any) -> bool:
    try:
        training_side.validate(manifest)
    except training_side.InvalidManifest:
        return False
    return True


@pytest.mark.parametrize("name", [IMAGE, TEXT])
def test_a_whole_artifact_loads(store: Path, name: str) -> None:
    artifact = load_artifact(store / name / "1")
    assert artifact.graph.is_file()
    assert artifact.manifest.id == name


def test_every_single_flipped_byte_is_found(store: Path) -> None:
    path = store / TEXT / "1"
    for file in (file for file in path.rglob("*") if file.is_file()):
        whole = file.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1}:
            flipped = bytearray(whole)
            flipped[place] ^= 1
            file.write_bytes(flipped)
            # The last byte of the signature is a newline, which says nothing.
            if (file.name, place) != ("manifest.sha256", len(whole) - 1):
                with pytest.raises(InvalidArtifact, match=file.name.removesuffix(".sha256")):
                    load_artifact(path)
        file.write_bytes(whole)
    load_artifact(path)


def test_a_missing_signature_is_told_with_the_command_that_makes_it(store: Path) -> None:
    path = store / TEXT / "1"
    (path / "manifest.sha256").unlink()
    with pytest.raises(InvalidArtifact, match=r"manifest\.sha256 is missing") as caught:
        load_artifact(path)
    assert f"cd {path} && sha256sum manifest.json > manifest.sha256" in caught.value.remedy


def test_a_missing_file_is_told(store: Path) -> None:
    (store / TEXT / "1" / "model.onnx").unlink()
    with pytest.raises(InvalidArtifact, match=r"model\.onnx cannot be read"):
        load_artifact(store / TEXT / "1")


def test_names_of_directories_must_agree(store: Path) -> None:
    (store / TEXT / "1").rename(store / TEXT / "2")
    with pytest.raises(InvalidArtifact, match="says version '1', its directory '2'") as caught:
        load_artifact(store / TEXT / "2")
    assert f"{TEXT}/1" in caught.value.remedy


def test_files_must_lie_inside(store: Path, tmp_path: Path) -> None:
    path = store / TEXT / "1"
    (path / "model.onnx").rename(tmp_path / "model.onnx")
    (path / "model.onnx").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(InvalidArtifact, match="leads out of the artifact"):
        load_artifact(path)


def test_a_file_that_no_graph_names_is_nobodys_business(store: Path) -> None:
    path = store / IMAGE / "1"
    (path / "README.md").write_text("Ours.")
    load_artifact(path)


def test_what_explains_reads_nothing_without_a_digest_either(store: Path) -> None:
    path = store / IMAGE / "1"
    explain_image(path)
    assert load_artifact(path).beside("explain") == path / "explain.onnx"
    graph = onnx.load(path / "explain.onnx")
    onnx.save(graph, path / "explain.onnx", save_as_external_data=True, location="e.bin")
    edit(path, lambda manifest: None)
    with pytest.raises(InvalidArtifact, match=r"e\.bin, which has no digest"):
        load_artifact(path).beside("explain")


def test_what_breaks_the_contract_is_named(store: Path) -> None:
    path = store / TEXT / "1"
    edit(path, lambda manifest: manifest["postprocess"].update(labels=["a", "a"]))
    with pytest.raises(
        InvalidArtifact, match=r"postprocess\.classification\.labels: .*'a' is listed twice"
    ):
        load_artifact(path)
