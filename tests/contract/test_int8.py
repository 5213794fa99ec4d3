"""The shipped graphs of 8-bit integers are right here, and their manifests say what they cost."""

from pathlib import Path

import pytest

from convserve.artifact import load_artifact
from convserve.engine.cpu import cpu_budget
from convserve.engine.decoders import Decoders
from convserve.precision import LOSS, chosen
from convserve.served_model import open_model
from convserve.settings import Settings
from convserve.telemetry import Telemetry
from convserve_models import quantize

STORE = Path(__file__).parents[2] / "models" / "store"
QUANTIZED = sorted(path.parent for path in STORE.glob(f"*/*/{quantize.FILE}"))


@pytest.mark.parametrize("path", QUANTIZED, ids=lambda path: str(path.parent.name))
def test_it_reproduces_the_goldens(path: Path, tmp_path: Path) -> None:
    settings = Settings(precision="int8", cache=tmp_path)
    model, _ = open_model(path, settings, cpu_budget(1), Decoders(1), Telemetry())
    assert model.graphs.precision.graph == "int8"
    assert model.graphs.answering.path == path / quantize.FILE


@pytest.mark.parametrize("path", QUANTIZED, ids=lambda path: str(path.parent.name))
def test_its_manifest_lets_it_be_chosen(path: Path) -> None:
    manifest = load_artifact(path).manifest
    assert chosen(manifest, gain=3.0).graph == "int8"
    assert chosen(manifest, gain=1.0).graph == "float"


def test_both_sides_ask_the_same_of_it() -> None:
    assert quantize.LOSS == LOSS
