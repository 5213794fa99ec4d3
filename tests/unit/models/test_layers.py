"""Layers against their definitions."""

import torch
from torch import nn
from torch.nn import functional as F

from convserve_models.layers.mirrored import Mirrored
from convserve_models.layers.whitening import Whitening


def images(n: int) -> torch.Tensor:
    """Smooth pictures: neighbours and channels are correlated, as in photographs."""
    torch.manual_seed(0)
    return F.interpolate(torch.randn(n, 3, 12, 12), 32, mode="bilinear") + 0.3


def test_whitening_makes_patches_uncorrelated_with_variance_one() -> None:
    layer = Whitening(3, 2).train()
    batch = images(200)
    nn.init.zeros_(layer.get_parameter("bias"))
    answers = layer(batch)
    torch.testing.assert_close(answers[:, 12:], -answers[:, :12], atol=1e-5, rtol=1e-4)
    rows = answers[:, :12].transpose(0, 1).flatten(1)
    moments = rows @ rows.T / rows.shape[1]
    off = moments - torch.diag(moments.diag())
    assert off.abs().max() < 1e-3
    # Directions with next to no variance are kept small.
    assert (moments.diag() < 1.001).all()
    assert (moments.diag()[-6:] > 0.95).all()


def test_whitening_is_fitted_once_and_in_training_alone() -> None:
    layer = Whitening(3, 2)
    fresh = layer.weight.clone()
    layer.eval()(images(8))
    assert torch.equal(layer.weight, fresh)
    layer.train()(images(8))
    fitted = layer.weight.clone()
    assert not torch.equal(fitted, fresh)
    layer(images(16) * 3)
    assert torch.equal(layer.weight, fitted)
    other = Whitening(3, 2)
    other.load_state_dict(layer.state_dict())
    other.train()(images(16) * 3)
    assert torch.equal(other.weight, fitted)
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["bias"]


def test_a_mirrored_network_cannot_tell_left_from_right_once_trained() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 900, 5))
    both, batch = Mirrored(network), images(3)
    torch.testing.assert_close(both.train()(batch), network(batch))
    answers = both.eval()(batch)
    torch.testing.assert_close(answers, both(batch.flip(3)))
    torch.testing.assert_close(answers, (network(batch) + network(batch.flip(3))) / 2)
