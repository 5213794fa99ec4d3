from pathlib import Path

import pytest

from convserve.engine.cpu import cpu_budget
from convserve.engine.decoders import Decoders
from convserve.served_model import open_model
from convserve.settings import Settings
from convserve.telemetry import Telemetry
from loadtests.nulls import null
from tests.artifacts import IMAGE, TEXT, build_store


@pytest.mark.parametrize("name", [IMAGE, TEXT])
def test_a_null_net_is_an_artifact_like_any_other(tmp_path: Path, name: str) -> None:
    store = build_store(tmp_path / "store")
    made = null(store / name / "1", tmp_path / "nulls")
    path = tmp_path / "nulls" / made / "1"
    model, verdict = open_model(path, Settings(), cpu_budget(1), Decoders(1), Telemetry())
    assert verdict.goldens == 3
    assert model.modality == ("image" if name == IMAGE else "text")
