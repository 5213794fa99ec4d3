"""The table and the plot of a study, from the checkpoints of those members that are trained."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from convserve_models import card, evaluate, export, graph, network
from convserve_models.data import Dataset
from convserve_models.studies import Member, Study
from convserve_models.tasks import classification
from convserve_models.train import checkpoint_of

ROUNDS = 31
"""Of the networks taking turns on one image each."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a member attains on `n` test images, and what it costs."""

    member: Member
    epochs: int
    accuracy: float
    interval: tuple[float, float]
    n: int
    parameters: int
    macs: int
    seconds: float = 0.0
    """Processor time of the exported graph for one image, on one thread."""


COSTS: dict[str, Callable[[Result], float]] = {
    "million parameters": lambda one: one.parameters / 1e6,
    "million multiply-adds": lambda one: one.macs / 1e6,
    "milliseconds of CPU an image": lambda one: 1e3 * one.seconds,
}
"""The horizontal axes of the plot."""


def results(study: Study, dataset: Dataset, root: Path | None = None) -> list[Result]:
    """Export, evaluate and time every member that has a checkpoint, in the study's order."""
    trained = [m for m in study.members if checkpoint_of(m.recipe, root).exists()]
    with tempfile.TemporaryDirectory() as scratch:
        graphs = [Path(scratch) / f"{member.recipe.id}.onnx" for member in trained]
        found = [
            _result(member, dataset, checkpoint_of(member.recipe, root), path)
            for member, path in zip(trained, graphs, strict=True)
        ]
        return _timed(found, graphs)


def write(study: Study, found: Sequence[Result], folder: Path, name: str) -> Path:
    """Write `<name>.md`, which shows `<name>.png`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    _plot(study, found).savefig(folder / f"{name}.png", dpi=110)
    page = folder / f"{name}.md"
    page.write_text("\n".join(_page(study, found, name)) + "\n", encoding="utf-8")
    return page


def _result(member: Member, dataset: Dataset, checkpoint: Path, path: Path) -> Result:
    """Write the member's graph to `path`, and evaluate that."""
    recipe, n = member.recipe, len(dataset.test)
    preprocess = recipe.preprocess
    model = network.trained(recipe, dataset.card, checkpoint)
    inputs = export.random_inputs(preprocess, 2)
    graph.write(model, inputs, path, preprocess.input_name, "logits")
    rate = classification.accuracy(
        evaluate.outputs(path, recipe, dataset.test)[0], dataset.test.labels
    )
    size = card.architecture(recipe, model, inputs[:1])["architecture"]
    return Result(
        member,
        network.epochs_of(checkpoint),
        rate,
        classification.wilson(rate, n),
        n,
        size["parameters"],
        size["macs"],
    )


def _timed(found: Sequence[Result], graphs: Sequence[Path]) -> list[Result]:
    """The same with what one image costs each graph, medians of turns."""
    if not found:
        return []
    image = export.random_inputs(found[0].member.recipe.preprocess, 1).numpy()
    taken = np.median(evaluate.seconds(graphs, image, ROUNDS), axis=0)
    return [replace(one, seconds=s) for one, s in zip(found, taken.tolist(), strict=True)]


def _page(study: Study, found: Sequence[Result], name: str) -> Iterator[str]:
    yield f"# {study.title}\n"
    yield f"`convserve-models study {name} --train`: {study.question}\n"
    yield "| network | parameters | MACs | CPU | epochs | accuracy (95 % interval) | n | paper's |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in found:
        low, high = one.interval
        cells = (
            one.member.name,
            f"{one.parameters:,} ({one.parameters / found[0].parameters:.0%})",
            f"{one.macs / 1e6:.1f} M ({one.macs / found[0].macs:.0%})",
            f"{1e3 * one.seconds:.2f} ms ({one.seconds / found[0].seconds:.0%})",
            str(one.epochs),
            f"{one.accuracy:.2%} ({low:.2%}–{high:.2%})",
            f"{one.n:,}",
            f"{one.member.paper:.2%}",
        )
        yield f"| {' | '.join(cells)} |"
    left = [m.name for m in study.members if m not in [one.member for one in found]]
    if left:
        yield f"\nNot trained: {', '.join(left)}."
    yield (
        "\nCPU: processor time of the exported graph for one image on one thread, the median of "
        f"{ROUNDS} turns. Accuracies are of the exported graph on the test split."
    )
    yield f"\n![accuracy against cost]({name}.png)"


def _plot(study: Study, found: Sequence[Result]) -> Figure:
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for group in dict.fromkeys(one.member.group for one in found):
        mine = [one for one in found if one.member.group == group]
        rates = [100 * one.accuracy for one in mine]
        errors = [
            [100 * (one.accuracy - one.interval[0]) for one in mine],
            [100 * (one.interval[1] - one.accuracy) for one in mine],
        ]
        for axes, cost in zip(panels, COSTS.values(), strict=True):
            axes.errorbar([cost(r) for r in mine], rates, errors, fmt="o", capsize=3, label=group)
    for axes, label in zip(panels, COSTS, strict=True):
        axes.set(xlabel=label)
    panels[0].set(ylabel="test accuracy in %")
    panels[-1].legend()
    figure.suptitle(study.title)
    return figure
