"""The loop, on real (if small) networks and data."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from convserve_models import evaluate, graph, network, train
from convserve_models.tasks import classification
from convserve_models.tasks.auxiliary import Auxiliary
from tests.toys import TOYS


@pytest.mark.parametrize("modality", sorted(TOYS))
def test_learns(modality: str, tmp_path: Path) -> None:
    recipe, make = TOYS[modality]
    dataset = make()
    checkpoint = train.train(recipe, dataset, root=tmp_path)
    model = network.trained(recipe, dataset.card, checkpoint)
    answers = classification.softmax(evaluate.logits(model, recipe, dataset.test))
    assert classification.accuracy(answers, dataset.test.labels) > 0.9
    lines = (checkpoint.parent / "history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == recipe.epochs
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("modality", sorted(TOYS))
def test_resumed_equals_uninterrupted(
    modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, make = TOYS[modality]
    dataset = make()
    whole = train.train(recipe, dataset, root=tmp_path / "whole")
    epoch, calls = train._epoch, []

    def killed_in_the_third(*args: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "_epoch", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        train.train(recipe, dataset, root=tmp_path / "parts")
    parts = train.train(recipe, dataset, root=tmp_path / "parts", resume=True)
    expected, found = (torch.load(path, weights_only=True)["model"] for path in (whole, parts))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("augment", [("crop",), ("window",)])
def test_auxiliary_heads_train_and_stay_out_of_the_network(
    tmp_path: Path, augment: tuple[str, ...]
) -> None:
    recipe, make = TOYS["image"]
    dataset = make()
    part = "features.3"
    heard = replace(recipe, epochs=2, auxiliary=(part,), augment=augment)
    checkpoint = train.train(heard, dataset, root=tmp_path)
    state = torch.load(checkpoint, weights_only=True)
    assert state["heads"]
    plain = network.build(recipe, dataset.card)
    assert set(state["model"]) == set(plain.state_dict())
    model = network.trained(recipe, dataset.card, checkpoint)  # as if there had been none
    pictures = network.tensor(recipe, dataset.test)[:2]
    graphs = [tmp_path / "plain.onnx", tmp_path / "heard.onnx"]
    for each, path in zip((plain.eval(), model), graphs, strict=True):
        graph.write(each, pictures, path, "image", "logits")
    assert _shape(graphs[0]) == _shape(graphs[1])


def _shape(path: Path) -> tuple[list[str], list[list[int]]]:
    """A graph's operations, and the axes of its kernels."""
    loaded = onnx.load(path).graph
    kernels = [list(w.dims) for w in loaded.initializer if len(w.dims) == 4]
    return [node.op_type for node in loaded.node], kernels


def _output(model: torch.nn.Sequential, part: str, inputs: torch.Tensor) -> torch.Tensor:
    last = int(part.rpartition(".")[2])
    features = model.get_submodule("1.features")
    assert isinstance(features, torch.nn.Sequential)
    maps: torch.Tensor = features[: last + 1](model[0](inputs))
    return maps


def test_an_auxiliary_loss_is_the_weighted_sum_of_its_heads_losses() -> None:
    recipe, make = TOYS["image"]
    dataset = make()
    model = network.build(recipe, dataset.card)
    inputs = network.tensor(recipe, dataset.test)
    heads = Auxiliary(model, ("features.3", "features.6"), inputs[:2], 3).eval()
    model.eval()(inputs)
    labels = torch.from_numpy(dataset.test.labels)
    of = torch.nn.functional.cross_entropy
    exits = zip(heads, ("features.3", "features.6"), strict=True)
    expected = sum(of(head(_output(model, part, inputs)), labels) for head, part in exits)
    torch.testing.assert_close(heads.loss(lambda logits: of(logits, labels)), 0.3 * expected)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_lookahead_in_bfloat16_learns_and_resumes(tmp_path: Path, bfloat16: bool) -> None:
    recipe, make = TOYS["image"]
    ahead, dataset = replace(recipe, lookahead=True, norm_rate=4.0), make()
    checkpoint = train.train(ahead, dataset, root=tmp_path, bfloat16=bfloat16)
    state = torch.load(checkpoint, weights_only=True)
    weights = [v for v in state["model"].values() if v.is_floating_point()]
    for slow, left in zip(state["lookahead"].values(), weights, strict=True):
        torch.testing.assert_close(slow, left, atol=0, rtol=0)
    assert train.train(ahead, dataset, root=tmp_path, resume=True) == checkpoint
    model = network.trained(ahead, dataset.card, checkpoint)
    said = classification.softmax(evaluate.logits(model, ahead, dataset.test))
    assert classification.accuracy(said, dataset.test.labels) > 0.9


def test_one_at_a_time(tmp_path: Path) -> None:
    recipe, make = TOYS["image"]
    with train._only_run(tmp_path / "train.lock"), pytest.raises(BlockingIOError):
        train.train(replace(recipe, epochs=1), make(), root=tmp_path)
