"""What a training step eats: every sample once, by the seed and the epoch alone."""

from dataclasses import replace

import pytest
import torch

from convserve_models import network
from convserve_models.feed import feed
from tests.toys import TOYS


@pytest.mark.parametrize("modality", sorted(TOYS))
def test_an_epoch_has_every_sample_once(modality: str) -> None:
    recipe, make = TOYS[modality]
    plain, split = replace(recipe, augment=(), batch_size=20), make().train
    parts = list(feed(plain, split, torch.device("cpu")).batches(0))
    assert [len(labels) for _, labels in parts] == [20, 20, 20, 20, 16]
    rows = torch.cat([inputs.flatten(1) for inputs, _ in parts])
    expected = network.tensor(plain, split).flatten(1)
    assert sorted(rows.tolist()) == sorted(expected.tolist())
    assert not torch.equal(rows, expected)


@pytest.mark.parametrize("modality", sorted(TOYS))
def test_an_epoch_depends_on_its_number_alone(modality: str) -> None:
    recipe, make = TOYS[modality]
    split = make().train

    def first(epoch: int) -> torch.Tensor:
        return next(iter(feed(recipe, split, torch.device("cpu")).batches(epoch)))[0]

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))
