"""Somebody else's network becomes an artifact that the service verifies, or a diagnosis."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from convserve.engine.cpu import cpu_budget
from convserve.engine.decoders import Decoders
from convserve.errors import InvalidArtifact
from convserve.served_model import open_model
from convserve.settings import Settings
from convserve.telemetry import Telemetry
from convserve_models import cli, importing, reference
from convserve_models.importing import Limits, Refusal, Request, worker
from tests.exports import (
    BROKEN,
    LABELS,
    MEAN,
    STD,
    WEIGHTS,
    Broken,
    Export,
    external,
    jpeg,
    node,
    request,
    then,
)

STEPS: list[dict[str, Any]] = [
    {"op": "decode"},
    {"op": "resize", "shorter": 8},
    {"op": "center_crop", "size": [8, 8]},
]
LAST = [node("ReduceMean", ["x"], ["features"], axes=[1, 2], keepdims=0)]


def imported(folder: Path, network: bytes, **changes: str) -> Path:
    """Import in this process: quick, and without limits."""
    target = folder / "store" / "colours" / "1"
    target.mkdir(parents=True)
    worker.make(request(folder, network, **changes), target, "1")
    return target


def served(path: Path) -> dict[str, Any]:
    """Prove an artifact as the service does, and return its manifest."""
    open_model(path, Settings(), cpu_budget(1), Decoders(1), Telemetry())
    found: dict[str, Any] = json.loads((path / "manifest.json").read_text())
    return found


def expected(encoded: bytes, order: tuple[int, ...] = (0, 1, 2)) -> list[float]:
    """What the network says, by numpy."""
    pixels = reference.image(encoded, STEPS)[:, :, order] / 255
    scores = ((pixels - MEAN) / STD).mean(axis=(0, 1)) @ WEIGHTS
    powers = np.exp(scores - scores.max())
    return [float(p) for p in powers / powers.sum()]


def _external(folder: Path) -> bytes:
    (folder / "weights.bin").write_bytes(WEIGHTS.tobytes())
    return external("weights.bin")


def _half() -> bytes:
    half = TensorProto.FLOAT16
    weights = {"weights": WEIGHTS.astype(np.float16)}
    return Export(kind=half, taken_kind=half, weights=weights).content()


WHOLE = {
    "logits": Export().content(),
    "probabilities": then(node("Softmax", ["scores"], ["end"], axis=1)),
    "log probabilities": then(node("LogSoftmax", ["scores"], ["end"], axis=1)),
    "channels last": Export(shape=("n", 8, 8, 3), before=LAST).content(),
    "float16": _half(),
    "any size": Export(shape=("n", 3, "h", "w")).content(),
    "batch of one, only stated": Export(shape=(1, 3, 8, 8), taken=(1, 3)).content(),
    "opset 9": Export(opset=9).content(),
    "names of ours": Export(
        before=[node("ReduceMean", ["x"], ["image"], axes=[2, 3], keepdims=0)],
        scores=[node("MatMul", ["image", "weights"], ["probabilities"])],
        output="probabilities",
    ).content(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_network_is_served_with_the_same_answers(tmp_path: Path, name: str) -> None:
    path = imported(tmp_path, WHOLE[name])
    card = served(path)
    assert card["goldens"][0]["input"] == "samples/sample.jpeg"
    assert len(card["goldens"]) > 3  # a photo, a native size, alpha: they prove the byte work
    found = [card["goldens"][0]["expected"][label] for label in LABELS]
    assert found == pytest.approx(expected(jpeg()), abs=2e-3)
    session = ort.InferenceSession(path / "model.onnx")
    assert session.get_inputs()[0].type == "tensor(uint8)"
    for n in (1, 2, 7):
        rows = session.run(None, {"image": np.full((n, 8, 8, 3), 9, np.uint8)})[0]
        assert rows.shape == (n, 3)
        assert rows.sum(axis=1) == pytest.approx(np.ones(n), abs=1e-5)


def test_weights_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    path = imported(tmp_path, _external(tmp_path))
    (tmp_path / "weights.bin").unlink()
    served(path)


def test_a_network_of_bytes_is_normalised_by_itself(tmp_path: Path) -> None:
    cast = node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
    mean = node("ReduceMean", ["f"], ["features"], axes=[1, 2], keepdims=0)
    parts: dict[str, Any] = {
        "kind": TensorProto.UINT8,
        "shape": ("n", 8, 8, 3),
        "before": [cast, mean],
    }
    path = imported(tmp_path, Export(**parts).content())
    row = ort.InferenceSession(path / "model.onnx").run(
        None, {"image": np.full((1, 8, 8, 3), [[[[9, 8, 7]]]], np.uint8)}
    )
    scores = np.exp(np.array([9, 8, 7]) @ WEIGHTS - 36)
    assert row[0][0] == pytest.approx(scores / scores.sum(), abs=1e-5)


def test_blue_may_come_first(tmp_path: Path) -> None:
    steps = tmp_path / "bgr.json"
    steps.write_text(
        json.dumps({"steps": STEPS, "mean": [*MEAN], "std": [*STD], "channels": "BGR"})
    )
    path = imported(tmp_path, Export().content(), preprocess=str(steps), expect="blue")
    row = served(path)["goldens"][0]["expected"]
    assert [row[label] for label in LABELS] == pytest.approx(expected(jpeg(), (2, 1, 0)), abs=1e-5)


@pytest.mark.parametrize(
    ("preset", "side", "shorter"),
    [("imagenet", 224, 256), ("imagenet", 299, 342), ("cifar", 32, 32)],
)
def test_a_preset_takes_the_networks_size(
    tmp_path: Path, preset: str, side: int, shorter: int
) -> None:
    # A mean over all pixels at once would be another one in float32 for each size of batch.
    pooled = node("AveragePool", ["x"], ["tiles"], kernel_shape=[13, 13], strides=[13, 13])
    mean = node("ReduceMean", ["tiles"], ["features"], axes=[2, 3], keepdims=0)
    network = Export(shape=("n", 3, side, side), before=[pooled, mean]).content()
    path = imported(tmp_path, network, preprocess=preset)
    steps = served(path)["preprocess"]["steps"]
    assert (steps[1]["shorter"], steps[2]["size"]) == (shorter, [side, side])


def test_one_of_several_outputs_is_chosen(tmp_path: Path) -> None:
    (broken,) = (b for b in BROKEN if b.name == "two outputs")
    assert broken.network
    served(imported(tmp_path, broken.network(), output="scores"))


def test_there_are_more_than_twenty_kinds_of_refusals() -> None:
    assert len({broken.code for broken in BROKEN}) > 20
    assert len({broken.name for broken in BROKEN}) == len(BROKEN)


def attempt(asked: Request, folder: Path, code: str) -> None:
    """Import it, within limits where that is what is tested."""
    seconds = {"time": 6, "memory": 60, "name": 60}.get(code)
    if seconds is None:
        worker.make(asked, folder, "1")
    else:
        importing.import_network(asked, folder / "store", limits=Limits(seconds))


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_refusal_is_a_diagnosis(tmp_path: Path, broken: Broken) -> None:
    asked = request(tmp_path, broken.network() if broken.network else None, **broken.changes)
    with pytest.raises(Refusal) as caught:
        attempt(asked, tmp_path, broken.code)
    assert caught.value.code == broken.code, str(caught.value)
    assert re.search(broken.words, str(caught.value), re.DOTALL), str(caught.value)
    assert caught.value.remedy
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    "broken", [b for b in BROKEN if b.network and not b.changes], ids=lambda broken: broken.name
)
def test_the_service_survives_the_same_files(tmp_path: Path, broken: Broken) -> None:
    """Bare, they are refused, or served as the tensors that they state; nothing worse happens."""
    assert broken.network
    path = tmp_path / "broken" / "1"
    path.mkdir(parents=True)
    (path / "model.onnx").write_bytes(broken.network())
    settings = Settings(run_seconds=1, grace_seconds=1)
    with suppress(InvalidArtifact):
        model, _ = open_model(path, settings, cpu_budget(1), Decoders(1), Telemetry())
        assert model.artifact.manifest.inputs


def test_a_symbolic_link_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(Refusal, match="outside"):
        worker.make(request(folder, external("weights.bin")), tmp_path, "1")


def test_whatever_happens_in_the_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path, Export().content())
    for script, code in (("kill -SEGV $$", "crash"), ("echo oops >&2; exit 3", "unexpected")):
        fake = tmp_path / "python"
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(fake))
        with pytest.raises(Refusal) as caught:
            importing.import_network(asked, tmp_path / "store")
        assert caught.value.code == code


NO_TORCH = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "tqdm", "sklearn", "scipy", "matplotlib"}:
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Wall())
"""


def test_the_command_works_without_torch(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    asked = request(tmp_path, Export().content())
    words = ["import", asked.network, "--labels", asked.labels, "--preprocess", asked.preprocess]
    words += [
        "--sample",
        asked.sample,
        "--expect",
        asked.expect,
        "--store",
        str(tmp_path / "store"),
    ]
    inherited = os.pathsep.join(filter(None, [str(tmp_path), *sys.path]))
    command = [
        sys.executable,
        "-c",
        "from convserve_models.cli import main; raise SystemExit(main())",
    ]
    command += words
    environment = {**os.environ, "PYTHONPATH": inherited}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert served(tmp_path / "store" / "net" / "1")["id"] == "net"
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.stdout.strip().endswith("net/2")


def test_a_refusal_ends_the_command_with_one(tmp_path: Path) -> None:
    asked = request(tmp_path, b"")
    words = ["--labels", asked.labels, "--preprocess", "cifar", "--sample", asked.sample]
    with pytest.raises(SystemExit, match=r"is empty\n  remedy: "):
        cli.main(
            ["import", asked.network, *words, "--expect", "red", "--store", str(tmp_path / "s")]
        )


def test_nothing_of_the_foreign_file_but_the_network_is_kept(tmp_path: Path) -> None:
    model = Export().model()
    model.graph.node[0].doc_string = "/home/somebody/secret.py"
    path = imported(tmp_path, bytes(model.SerializeToString()))
    assert b"somebody" not in (path / "model.onnx").read_bytes()
    onnx.checker.check_model(onnx.load(path / "model.onnx"), full_check=True)
