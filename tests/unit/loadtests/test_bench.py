import json
from pathlib import Path

from loadtests import bench
from loadtests.samples import read_model


def test_a_model_is_an_artifact_of_the_store_or_a_network_made_now(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert bench.found("all_cnn_cifar10", store, tmp_path) == store / "all_cnn_cifar10"
    made = bench.found("resnet18", store, tmp_path)
    (sample,) = read_model(made, 65536)
    assert sample.media_type == "image/jpeg"
    facts = json.loads((made / "1" / "manifest.json").read_text())
    assert bench.decoding(sample, facts) > 0
