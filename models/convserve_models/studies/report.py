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
from convserve_models.tasks import task_of
from convserve_models.tasks.classification import Metric
from convserve_models.train import checkpoint_of

ROUNDS = 31
"""Of the networks taking turns on one input each."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a member attains on the test split, and what it costs."""

    member: Member
    epochs: int
    figure: Metric
    parameters: int
    macs: int
    """Of one picture, or of a sound of the shortest bucket."""
    seconds: float = 0.0
    """Processor time of the exported graph for the same, on one thread."""


COSTS: dict[str, Callable[[Result], float]] = {
    "million parameters": lambda one: one.parameters / 1e6,
    "million multiply-adds": lambda one: one.macs / 1e6,
    "milliseconds of CPU": lambda one: 1e3 * one.seconds,
}
"""The horizontal axes of the plot."""
WORDS = {"accuracy": "accuracy", "ler": "letter error rate"}
"""A task's first figure in words."""


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
    """Evaluate the member, and write its graph to `path`."""
    recipe, preprocess = member.recipe, member.recipe.preprocess
    model = network.trained(recipe, dataset.card, checkpoint)
    said = evaluate.logits(model, recipe, dataset.test)
    figure = task_of(recipe.task).figures(said, dataset.test.labels, "test")[0]
    inputs = export.random_inputs(preprocess, 2)
    length = preprocess.variable
    graph.write(model, inputs, path, preprocess.input_name, "outputs", any_length=length)
    parameters = sum(p.numel() for p in model.parameters())
    epochs = network.epochs_of(checkpoint)
    return Result(member, epochs, figure, parameters, card.counted_macs(model, inputs[:1]))


def _timed(found: Sequence[Result], graphs: Sequence[Path]) -> list[Result]:
    """The same with what one input costs each graph, medians of turns."""
    if not found:
        return []
    asked = export.random_inputs(found[0].member.recipe.preprocess, 1).numpy()
    taken = np.median(evaluate.seconds(graphs, asked, ROUNDS), axis=0)
    return [replace(one, seconds=s) for one, s in zip(found, taken.tolist(), strict=True)]


def _page(study: Study, found: Sequence[Result], name: str) -> Iterator[str]:
    yield f"# {study.title}\n"
    yield f"`convserve-models study {name} --train`: {study.question}\n"
    figure = f"{WORDS[found[0].figure.name]} (95 % interval)"
    yield f"| network | parameters | MACs | CPU | epochs | {figure} | n | paper's |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in found:
        yield f"| {' | '.join(_cells(one, found[0]))} |"
    left = [m.name for m in study.members if m not in [one.member for one in found]]
    if left:
        yield f"\nNot trained: {', '.join(left)}."
    yield (
        "\nIn brackets the share of the first network's. CPU: processor time of the exported graph "
        f"for one input on one thread, the median of {ROUNDS} turns. "
        "The paper trained longer, at full width."
    )
    yield f"\n![what it attains against what it costs]({name}.png)"


def _cells(one: Result, first: Result) -> Iterator[str]:
    yield one.member.name
    yield f"{one.parameters:,} ({one.parameters / first.parameters:.0%})"
    yield f"{one.macs / 1e6:.1f} M ({one.macs / first.macs:.0%})"
    yield f"{1e3 * one.seconds:.2f} ms ({one.seconds / first.seconds:.0%})"
    yield str(one.epochs)
    yield "{:.2%} ({:.2%}–{:.2%})".format(one.figure.value, *_interval(one))
    yield f"{one.figure.n:,}"
    yield "–" if one.member.paper is None else f"{one.member.paper:.2%}"


def _plot(study: Study, found: Sequence[Result]) -> Figure:
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for group in dict.fromkeys(one.member.group for one in found):
        mine = [one for one in found if one.member.group == group]
        rates = 100 * np.array([one.figure.value for one in mine])
        errors = np.abs(100 * np.array([_interval(one) for one in mine]).T - rates)
        for axes, cost in zip(panels, COSTS.values(), strict=True):
            costs = [cost(one) for one in mine]
            axes.errorbar(costs, rates, errors, fmt="o", capsize=3, label=group)
            for one, place in zip(mine, zip(costs, rates, strict=True), strict=True):
                axes.annotate(f" {one.member.name}", place, fontsize=7)
    for axes, (label, cost) in zip(panels, COSTS.items(), strict=True):
        axes.set(xlabel=label, xlim=_span([cost(one) for one in found]))
    panels[0].set(ylabel=f"{WORDS[found[0].figure.name]} in %")
    panels[-1].legend()
    figure.suptitle(study.title)
    return figure


def _span(costs: Sequence[float]) -> tuple[float, float]:
    """Of the horizontal axis: with room for names, and costs that are as good as equal together."""
    least, most = min(costs), max(costs)
    room = max(0.25 * (most - least), 0.2 * most)
    return least - room, most + room


def _interval(one: Result) -> tuple[float, float]:
    assert one.figure.interval is not None
    return one.figure.interval
