from pathlib import Path

import pytest

from convserve.engine.cpu import cpu_budget
from convserve.engine.decoders import Decoders
from convserve.served_model import open_model
from convserve.settings import Settings
from convserve.telemetry import Telemetry
from loadtests import nets

# Those of He et al.'s networks as everybody has them, where normalisation leaves one number a
# channel instead of two: 11,689,512 less 4,800, and 25,557,032 less 26,560.
PARAMETERS = {"cifar_cnn": 966_038, "resnet18": 11_684_712, "resnet50": 25_530_472}


@pytest.mark.parametrize("name", nets.NETS)
def test_each_has_the_parameters_that_everybody_knows(name: str) -> None:
    net, _ = nets.NETS[name]()
    assert net.parameters() == PARAMETERS[name]


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18"])
def test_each_is_an_artifact_like_any_other(tmp_path: Path, name: str) -> None:
    path = nets.write(name, tmp_path)
    model, verdict = open_model(path, Settings(), cpu_budget(1), Decoders(1), Telemetry())
    assert verdict.goldens == 1
    assert model.modality == "image"
    assert len(model.labels) == (10 if name == "cifar_cnn" else 1000)
