"""The one training loop: progress bar, a checkpoint every epoch, resume, one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from convserve_models import evidence, network
from convserve_models.data import Dataset
from convserve_models.evaluate import logits
from convserve_models.feed import Feed, feed
from convserve_models.recipe import Recipe
from convserve_models.tasks import task_of

SHOWN_EVERY = 20
"""Steps between two losses on the progress bar."""


def runs_root() -> Path:
    """Where checkpoints lie: `CONVSERVE_RUNS`, else the user's cache."""
    return Path(os.environ.get("CONVSERVE_RUNS") or Path.home() / ".cache" / "convserve" / "runs")


@dataclass
class Run:
    """All state of a training, so that a checkpoint is this and nothing else."""

    model: nn.Module
    optimiser: Optimizer
    schedule: OneCycleLR
    device: torch.device
    epoch: int = 0

    def state(self) -> dict[str, Any]:
        """State dicts only, never a pickled module."""
        parts = {name: getattr(self, name).state_dict() for name in self._parts()}
        return {**parts, "epoch": self.epoch}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name in self._parts():
            getattr(self, name).load_state_dict(state[name])
        self.epoch = state["epoch"]

    @staticmethod
    def _parts() -> tuple[str, ...]:
        return ("model", "optimiser", "schedule")


def checkpoint_of(recipe: Recipe, root: Path | None = None) -> Path:
    """Where a recipe's checkpoint lies, under `root` or `runs_root()`."""
    return (root or runs_root()) / recipe.id / "checkpoint.pt"


def train(
    recipe: Recipe,
    dataset: Dataset,
    *,
    resume: bool = False,
    root: Path | None = None,
    device: str | None = None,
) -> Path:
    """Train a recipe and return its checkpoint; the history of figures lies beside it.

    `resume` goes on from the last finished epoch; without it a run starts anew. `device` is in
    torch's words; by default CUDA where there is some. There the forward pass computes in bfloat16
    where that is safe (autocast); weights stay float32.
    Raises `BlockingIOError` when another training holds the lock.
    """
    checkpoint = checkpoint_of(recipe, root)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with _only_run(checkpoint.parent.parent / "train.lock"):
        _epochs(recipe, dataset, checkpoint, resume, _device(device))
    return checkpoint


def _device(name: str | None) -> torch.device:
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _epochs(
    recipe: Recipe, dataset: Dataset, checkpoint: Path, resume: bool, device: torch.device
) -> None:
    training, held_out = dataset.divide(recipe.held_out, recipe.seed)
    torch.manual_seed(recipe.seed)
    held_out = network.read(recipe, held_out)
    model = network.build(recipe, dataset.card)
    if recipe.start:
        network.adopt(model, checkpoint.parents[1] / recipe.start / checkpoint.name)
    run = _start(recipe, model.to(device), len(training), device)
    fed = feed(recipe, training, device)
    history = checkpoint.with_name("history.jsonl")
    if resume and checkpoint.exists():
        run.restore(torch.load(checkpoint, weights_only=True, map_location=device))
    else:
        history.unlink(missing_ok=True)
        evidence.fit(model, recipe, network.read(recipe, training))
    while run.epoch < recipe.epochs:
        began = time.monotonic()
        mean_loss = _epoch(recipe, run, fed, len(training))
        run.epoch += 1
        said = logits(run.model, recipe, held_out)
        figures = task_of(recipe.task).figures(said, held_out.labels, "held_out")
        save(run.state(), checkpoint)
        line = {"epoch": run.epoch, "loss": mean_loss, "seconds": time.monotonic() - began}
        with history.open("a") as file:
            file.write(json.dumps(line | {f.name: f.value for f in figures}) + "\n")


def _start(recipe: Recipe, model: nn.Module, samples: int, device: torch.device) -> Run:
    if recipe.preprocess.modality == "image":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _optimiser(recipe, model)
    schedule = OneCycleLR(
        optimiser,
        max_lr=recipe.learning_rate,
        total_steps=recipe.epochs * -(-samples // recipe.batch_size),
        pct_start=recipe.warm_up,
        anneal_strategy="linear",
        cycle_momentum=False,
        final_div_factor=1e3,
    )
    return Run(model, optimiser, schedule, device)


def _optimiser(recipe: Recipe, model: nn.Module) -> Optimizer:
    # Biases and the scales of normalisation are not decayed.
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if recipe.optimiser == "adamw":
        return AdamW(groups, lr=recipe.learning_rate)
    return SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)


def _epoch(recipe: Recipe, run: Run, training: Feed, samples: int) -> float:
    """One pass; returns the mean loss. Its randomness depends on the seed and the epoch alone."""
    torch.manual_seed(recipe.seed * 1000 + run.epoch)
    total = torch.zeros((), device=run.device)
    run.model.train()
    steps = -(-samples // recipe.batch_size)
    title = f"epoch {run.epoch + 1}/{recipe.epochs}"
    with tqdm(training.batches(run.epoch), total=steps, desc=title, mininterval=2) as bar:
        for step, (inputs, labels) in enumerate(bar):
            loss = _step(recipe, run, inputs, labels)
            total += loss * len(labels)
            if step % SHOWN_EVERY == 0:  # reading a loss waits for the device
                bar.set_postfix(loss=f"{loss.item():.3f}")
    return total.item() / samples


def _step(recipe: Recipe, run: Run, inputs: Tensor, labels: Tensor) -> Tensor:
    run.optimiser.zero_grad(set_to_none=True)
    cuda = run.device.type == "cuda"
    with torch.autocast(run.device.type, torch.bfloat16, enabled=cuda):
        loss = task_of(recipe.task).loss(run.model(inputs), labels, recipe.label_smoothing)
    loss.backward()
    run.optimiser.step()
    run.schedule.step()
    return loss.detach()


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


@contextmanager
def _only_run(lock: Path) -> Iterator[None]:
    """Two trainings at once would each take more than twice as long."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
