"""What a training step eats: every sample once, by the seed and the epoch alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from convserve_models import network, recipes
from convserve_models.data import Split
from convserve_models.feed import feed
from tests.toys import TOYS


@pytest.mark.parametrize("modality", sorted(TOYS))
def test_an_epoch_has_every_sample_once(modality: str) -> None:
    recipe, make = TOYS[modality]
    plain, split = replace(recipe, augment=(), batch_size=20), make().train
    parts = list(feed(plain, split, torch.device("cpu")).batches(0))
    assert sorted(len(labels) for _, labels in parts) == [16, 20, 20, 20, 20]
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


def test_sequences_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(100, 1000, 640)
    split = Split([np.zeros(n, np.float32) for n in lengths], np.zeros((640, 1), np.int64))
    recipe = replace(recipes.load("wav2letter_fsdd"), augment=(), batch_size=16)
    batches = [inputs for inputs, _ in feed(recipe, split, torch.device("cpu")).batches(0)]
    assert sum(int(inputs.isnan().sum()) for inputs in batches) < 0.1 * lengths.sum()
    widths = [inputs.shape[1] for inputs in batches]
    assert widths != sorted(widths)
