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
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from convserve_models import evidence, network, optimisation
from convserve_models.data import Dataset
from convserve_models.evaluate import logits
from convserve_models.feed import Feed, feed
from convserve_models.optimisation import Lookahead
from convserve_models.recipe import Recipe
from convserve_models.tasks import task_of
from convserve_models.tasks.auxiliary import Auxiliary

SHOWN_EVERY = 20
"""Steps between two losses on the progress bar."""


def runs_root() -> Path:
    """Where checkpoints lie: `CONVSERVE_RUNS`, else the user's cache."""
    return Path(os.environ.get("CONVSERVE_RUNS") or Path.home() / ".cache" / "convserve" / "runs")


@dataclass(frozen=True, slots=True)
class How:
    """The machine's part of a training, which no recipe tells."""

    device: torch.device
    bfloat16: bool
    """Whether the forward pass computes in bfloat16 where that is safe (autocast)."""


@dataclass
class Run:
    """All state of a training, so that a checkpoint is this and nothing else."""

    parts: nn.ModuleDict
    """`model`, and where the recipe asks for them `heads` and `lookahead`."""
    optimiser: Optimizer
    schedule: OneCycleLR
    how: How
    epoch: int = 0

    @property
    def model(self) -> nn.Module:
        """The network itself."""
        return self.parts["model"]

    def state(self) -> dict[str, Any]:
        """State dicts only, never a pickled module."""
        return {name: part.state_dict() for name, part in self._states()} | {"epoch": self.epoch}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name, part in self._states():
            part.load_state_dict(state[name])
        self.epoch = state["epoch"]

    def _states(self) -> list[tuple[str, Any]]:
        return [*self.parts.items(), ("optimiser", self.optimiser), ("schedule", self.schedule)]


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
    bfloat16: bool | None = None,
) -> Path:
    """Train a recipe and return its checkpoint; the history of figures lies beside it.

    `resume` goes on from the last finished epoch; without it a run starts anew. `device` is in
    torch's words; by default CUDA where there is some. With `bfloat16` (by default on CUDA) the
    forward pass computes in it where that is safe (autocast); weights stay float32.
    Raises `BlockingIOError` when another training holds the lock.
    """
    checkpoint = checkpoint_of(recipe, root)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with _only_run(checkpoint.parent.parent / "train.lock"):
        _epochs(recipe, dataset, checkpoint, resume, _how(device, bfloat16))
    return checkpoint


def _how(device: str | None, bfloat16: bool | None) -> How:
    found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return How(found, found.type == "cuda" if bfloat16 is None else bfloat16)


def _epochs(recipe: Recipe, dataset: Dataset, checkpoint: Path, resume: bool, how: How) -> None:
    training, held_out = dataset.divide(recipe.held_out, recipe.seed)
    torch.manual_seed(recipe.seed)
    held_out = network.read(recipe, held_out)
    model = network.build(recipe, dataset.card)
    if recipe.start:
        network.adopt(model, checkpoint.parents[1] / recipe.start / checkpoint.name)
    fed = feed(recipe, training, how.device)
    run = _start(recipe, model, fed, len(training), len(dataset.card.labels), how)
    history = checkpoint.with_name("history.jsonl")
    if resume and checkpoint.exists():
        run.restore(torch.load(checkpoint, weights_only=True, map_location=how.device))
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


def _start(
    recipe: Recipe, model: nn.Sequential, fed: Feed, samples: int, labels: int, how: How
) -> Run:
    if recipe.preprocess.modality == "image":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = nn.ModuleDict({"model": model.to(how.device)})
    if recipe.auxiliary:
        example, _ = next(fed.batches(0))  # as large as what the heads will see
        heads = Auxiliary(model, recipe.auxiliary, example[:2], labels)
        parts["heads"] = heads.to(how.device)
    optimiser = optimisation.optimiser(recipe, parts)
    if recipe.lookahead:
        parts["lookahead"] = Lookahead(model)
    steps = recipe.epochs * -(-samples // recipe.batch_size)
    return Run(parts, optimiser, optimisation.schedule(recipe, optimiser, steps), how)


def _epoch(recipe: Recipe, run: Run, training: Feed, samples: int) -> float:
    """One pass; returns the mean loss. Its randomness depends on the seed and the epoch alone."""
    torch.manual_seed(recipe.seed * 1000 + run.epoch)
    total = torch.zeros((), device=run.how.device)
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
    with torch.autocast(run.how.device.type, torch.bfloat16, enabled=run.how.bfloat16):
        loss = _loss(recipe, run, inputs, labels)
    loss.backward()
    run.optimiser.step()
    run.schedule.step()
    if recipe.lookahead:
        lookahead = cast(Lookahead, run.parts["lookahead"])
        lookahead.step(run.model, run.schedule.last_epoch, run.schedule.total_steps)
    return loss.detach()


def _loss(recipe: Recipe, run: Run, inputs: Tensor, labels: Tensor) -> Tensor:
    def of(outputs: Tensor) -> Tensor:
        return task_of(recipe.task).loss(outputs, labels, recipe.label_smoothing)

    loss = of(run.model(inputs))
    return loss + cast(Auxiliary, run.parts["heads"]).loss(of) if recipe.auxiliary else loss


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
