"""Optimiser, schedule and lookahead do what their recipe says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from convserve_models import optimisation
from convserve_models.optimisation import Lookahead
from tests.toys import IMAGE_RECIPE


def network() -> nn.Module:
    frozen = nn.BatchNorm2d(4)
    frozen.weight.requires_grad = False
    return nn.Sequential(nn.Conv2d(3, 4, 3), frozen, nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("norm_rate", [1.0, 8.0])
def test_every_trainable_parameter_is_in_one_group(norm_rate: float) -> None:
    net = network()
    recipe = replace(IMAGE_RECIPE, norm_rate=norm_rate, weight_decay=0.04)
    groups = optimisation.optimiser(recipe, net).param_groups
    held = [p for group in groups for p in group["params"]]
    assert set(held) == {p for p in net.parameters() if p.requires_grad}
    assert len(held) == len(set(held))
    decays = [group["weight_decay"] for group in groups]
    assert decays == ([0.04, 0.0] if norm_rate == 1 else [0.04, 0.0, 0.005])


def test_the_schedule_is_a_triangle_between_its_rates() -> None:
    recipe = replace(
        IMAGE_RECIPE,
        learning_rate=2.0,
        warm_up=0.25,
        first_rate=0.2,
        last_rate=0.05,
        norm_rate=3.0,
    )
    optimiser = optimisation.optimiser(recipe, network())
    schedule = optimisation.schedule(recipe, optimiser, 41)
    rates = []
    for _ in range(40):
        optimiser.step()
        schedule.step()
        rates.append(schedule.get_last_lr())
    assert optimiser.param_groups[0]["initial_lr"] == pytest.approx(0.4)
    weights, _, norms = zip(*rates, strict=True)
    peak = weights.index(max(weights))
    assert max(weights) == pytest.approx(2.0, rel=0.05)
    assert abs(peak - 9) <= 1
    assert weights[-1] == pytest.approx(0.1)
    assert norms == pytest.approx([3 * rate for rate in weights])


@pytest.mark.parametrize("steps", range(1, 8))
def test_however_few_steps_end_at_the_last_rate(steps: int) -> None:
    optimiser = optimisation.optimiser(IMAGE_RECIPE, network())
    schedule = optimisation.schedule(IMAGE_RECIPE, optimiser, steps)
    for _ in range(steps - 1):
        optimiser.step()
        schedule.step()
    last = IMAGE_RECIPE.learning_rate * IMAGE_RECIPE.last_rate
    assert schedule.get_last_lr()[0] == pytest.approx(last)


def test_lookahead_is_the_mean_that_its_meetings_make() -> None:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    ahead = Lookahead(net)
    total, slow = 20, 0.0
    for done in range(1, total + 1):
        net.weight.data += 1.0
        expected = net.weight.item()
        if done == total:
            expected = slow
        elif done % optimisation.MEET_EVERY == 0:
            kept = optimisation.KEPT * (done / total) ** 3
            slow = expected = kept * slow + (1 - kept) * expected
        ahead.step(net, done, total)
        assert net.weight.item() == pytest.approx(expected)
    assert 0 < net.weight.item() < total


def test_lookahead_takes_running_statistics_along() -> None:
    norm = nn.BatchNorm1d(2)
    ahead = Lookahead(norm)
    norm(torch.randn(64, 2) + 5)
    ahead.step(norm, 10, 10)
    assert torch.equal(norm.get_buffer("running_mean"), torch.zeros(2))
