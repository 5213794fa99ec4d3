"""The loop, on real (if small) networks and data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convserve_models import evaluate, network, train
from convserve_models.tasks import classification
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


def test_one_at_a_time(tmp_path: Path) -> None:
    recipe, make = TOYS["image"]
    with train._only_run(tmp_path / "train.lock"), pytest.raises(BlockingIOError):
        train.train(replace(recipe, epochs=1), make(), root=tmp_path)
