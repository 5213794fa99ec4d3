"""The table and the plot of a study, from the checkpoints of those members that are trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from convserve_models import card, evaluate, export, network
from convserve_models.data import Dataset
from convserve_models.studies import Member, Study
from convserve_models.tasks import classification
from convserve_models.train import checkpoint_of


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


def results(study: Study, dataset: Dataset, root: Path | None = None) -> list[Result]:
    """Evaluate every member that has a checkpoint, in the study's order."""
    trained = [m for m in study.members if checkpoint_of(m.recipe, root).exists()]
    return [_result(member, dataset, checkpoint_of(member.recipe, root)) for member in trained]


def write(study: Study, found: Sequence[Result], folder: Path, name: str) -> Path:
    """Write `<name>.md`, which shows `<name>.png`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    _plot(study, found).savefig(folder / f"{name}.png", dpi=110)
    page = folder / f"{name}.md"
    page.write_text("\n".join(_page(study, found, name)) + "\n", encoding="utf-8")
    return page


def _result(member: Member, dataset: Dataset, checkpoint: Path) -> Result:
    recipe, n = member.recipe, len(dataset.test)
    model = network.trained(recipe, dataset.card, checkpoint)
    said = evaluate.logits(model, recipe, dataset.test)
    rate = classification.accuracy(said, dataset.test.labels)
    facts = card.architecture(recipe, model, export.random_inputs(recipe.preprocess, 1))
    size = facts["architecture"]
    return Result(
        member,
        network.epochs_of(checkpoint),
        rate,
        classification.wilson(rate, n),
        n,
        size["parameters"],
        size["macs"],
    )


def _page(study: Study, found: Sequence[Result], name: str) -> Iterator[str]:
    yield f"# {study.title}\n"
    yield f"{study.question}\n"
    yield "| network | parameters | MACs | epochs | accuracy (95 % interval) | n | the paper's |"
    yield "|---|---|---|---|---|---|---|"
    for one in found:
        low, high = one.interval
        cells = (
            one.member.name,
            f"{one.parameters:,}",
            f"{one.macs / 1e6:.1f} M",
            str(one.epochs),
            f"{one.accuracy:.2%} ({low:.2%}–{high:.2%})",
            f"{one.n:,}",
            f"{one.member.paper:.2%}",
        )
        yield f"| {' | '.join(cells)} |"
    left = [m.name for m in study.members if m not in [one.member for one in found]]
    if left:
        yield f"\nNot trained: {', '.join(left)}."
    yield f"\n![accuracy against cost]({name}.png)"


def _plot(study: Study, found: Sequence[Result]) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    by_parameters, by_macs = figure.subplots(1, 2, sharey=True)
    for group in dict.fromkeys(one.member.group for one in found):
        mine = [one for one in found if one.member.group == group]
        rates = [100 * one.accuracy for one in mine]
        errors = [
            [100 * (one.accuracy - one.interval[0]) for one in mine],
            [100 * (one.interval[1] - one.accuracy) for one in mine],
        ]
        for axes, costs in (
            (by_parameters, [one.parameters / 1e6 for one in mine]),
            (by_macs, [one.macs / 1e6 for one in mine]),
        ):
            axes.errorbar(costs, rates, errors, fmt="o", capsize=3, label=group)
    by_parameters.set(xlabel="million parameters", ylabel="test accuracy in %")
    by_macs.set(xlabel="million multiply-adds")
    by_macs.legend()
    figure.suptitle(study.title)
    return figure
