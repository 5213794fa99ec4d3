"""How weights move: the optimiser, its schedule, and slow weights that follow the fast ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from convserve_models.recipe import Recipe

MEET_EVERY = 5
"""Steps between two meetings of slow and fast weights."""
KEPT = 0.95**MEET_EVERY
"""Share of the slow weights that a meeting keeps, at the end of the training."""


def optimiser(recipe: Recipe, network: nn.Module) -> Optimizer:
    """SGD or AdamW over a network's trainable parameters.

    Biases are not decayed, nor is normalisation, unless it learns at a rate of its own.
    """
    norms = set(_of_normalisation(network)) if recipe.norm_rate != 1 else set()
    others = [p for p in network.parameters() if p.requires_grad and p not in norms]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if norms:
        decay = recipe.weight_decay / recipe.norm_rate
        groups.append({"params": list(norms), "weight_decay": decay})
    if recipe.optimiser == "adamw":
        return AdamW(groups, lr=recipe.learning_rate)
    return SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True)


def _of_normalisation(network: nn.Module) -> Iterator[nn.Parameter]:
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            yield from (p for p in part.parameters() if p.requires_grad)


def schedule(recipe: Recipe, optimiser: Optimizer, steps: int) -> OneCycleLR:
    """One triangle over all steps: up to the learning rate, then down."""
    rates = [recipe.learning_rate, recipe.learning_rate, recipe.learning_rate * recipe.norm_rate]
    return OneCycleLR(
        optimiser,
        max_lr=rates[: len(optimiser.param_groups)],
        total_steps=steps,
        pct_start=min(max(recipe.warm_up, 2 / steps), 1 - 0.5 / steps),  # both ways take a step
        anneal_strategy="linear",
        cycle_momentum=False,
        div_factor=1 / recipe.first_rate,
        final_div_factor=recipe.first_rate / recipe.last_rate,
    )


class Lookahead(nn.Module):
    """Slow copies of a network's weights and running statistics: Zhang et al., 1907.08610.

    As in Jordan, 2404.00498, §3.4: the fast ones go back to the slow ones every few steps, the slow
    ones grow ever slower, and in the end they are what remains.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for number, value in enumerate(_floats(network)):
            self.register_buffer(str(number), value.clone())

    @torch.no_grad()
    def step(self, network: nn.Module, done: int, total: int) -> None:
        """After step `done` of `total`: meet where it is time."""
        if done % MEET_EVERY and done != total:
            return
        kept = 1.0 if done == total else KEPT * (done / total) ** 3
        for slow, fast in zip(self.buffers(), _floats(network), strict=True):
            slow.lerp_(fast, 1 - kept)
            fast.copy_(slow)


def _floats(network: nn.Module) -> Iterable[Tensor]:
    return (value for value in network.state_dict().values() if value.is_floating_point())
