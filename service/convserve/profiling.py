"""`convserve profile`: what a model's runs cost on this machine, as a table, JSON and a plot."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from convserve.engine import Arrays
from convserve.engine.cost import batch_sizes
from convserve.engine.layout import Choice, Layout, Trial, choose, layouts, medians
from convserve.engine.session import RUNTIME, Session
from convserve.errors import InvalidArtifact
from convserve.repository import Repository
from convserve.served_model import ServedModel
from convserve.settings import InvalidSettings, Settings
from convserve.telemetry import Telemetry

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one model: (batch size, seconds) of a run alone on one thread, and trials of layouts."""

    model: str
    version: str
    runtime: str
    cores: str
    curve: tuple[tuple[int, float], ...]
    choice: Choice


def profile(settings: Settings, name: str, out: Path | None, plot: Path | None) -> Profile:
    """Measure a model and print a table; write JSON to `out` and a picture to `plot`.

    Raises InvalidSettings, ModelNotFound, ModelNotReady, or InvalidArtifact without a golden.
    """
    if plot and not find_spec("matplotlib"):
        raise InvalidSettings("a plot needs matplotlib: pip install matplotlib")
    found = asyncio.run(_profile(settings, name))
    print("\n".join(_table(found)))
    if out:
        out.write_text(json.dumps(asdict(found), indent=1) + "\n")
    if plot:
        _draw(found, plot)
    return found


async def _profile(settings: Settings, name: str) -> Profile:
    repository = Repository(settings, Telemetry())
    await repository.start()
    try:
        await repository.settled()
        return _measure(await repository.get(name), repository.cpu_budget.executors)
    finally:
        await repository.close()


def _measure(model: ServedModel, cores: int) -> Profile:
    example = model.example()
    if example is None:
        raise InvalidArtifact(f"{model.id} has no golden to measure with", "add one")
    graph = model.graphs.answering.path
    sessions = {layout: Session(graph, layout.threads) for layout in layouts(cores)}
    alone = Session(graph, 1)
    seconds: dict[int, list[float]] = {}
    trials: list[Trial] = []
    for _ in range(ROUNDS):  # interleaved: a busy moment hits all alike
        for size in batch_sizes(model.max_batch_size):
            rate = model.graphs.attempt(alone, Layout(1, 1), [example] * size).items_per_second
            seconds.setdefault(size, []).append(size / rate)
            trials += _attempts(model, sessions, [example] * size)
    curve = tuple((size, median(taken)) for size, taken in seconds.items())
    choice = choose(medians(trials))
    return Profile(model.id, model.version, RUNTIME, f"{cores} core(s)", curve, choice)


def _attempts(
    model: ServedModel, sessions: dict[Layout, Session], items: Sequence[Arrays]
) -> Iterator[Trial]:
    for layout, session in sessions.items():
        yield model.graphs.attempt(session, layout, items)


def _table(profile: Profile) -> Iterator[str]:
    rates = {(t.layout, t.batch_size): t.items_per_second for t in profile.choice.trials}
    ways = list(dict.fromkeys(layout for layout, _ in rates))
    yield f"{profile.model} version {profile.version}, {profile.runtime}, {profile.cores}"
    yield " | ".join(["batch", "ms alone", *(f"items/s, {way}" for way in ways)])
    for size, taken in profile.curve:
        cells = [f"{rates[way, size]:{len(f'items/s, {way}')}.0f}" for way in ways]
        yield " | ".join([f"{size:5}", f"{taken * 1e3:8.3f}", *cells])
    yield f"chosen: {profile.choice.layout}"


def _draw(profile: Profile, file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - no dependency of the service

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (cost, rate) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    sizes, seconds = zip(*profile.curve, strict=True)
    cost.plot(sizes, [one * 1e3 for one in seconds], "o-")
    cost.set(xlabel="batch size", ylabel="ms", title="one run alone, one thread")
    for way in dict.fromkeys(trial.layout for trial in profile.choice.trials):
        mine = [trial for trial in profile.choice.trials if trial.layout == way]
        rate.plot(*zip(*((t.batch_size, t.items_per_second) for t in mine), strict=True), "o-")
        rate.lines[-1].set_label(str(way))
    rate.set(xlabel="batch size", ylabel="items/s", title="all cores")
    rate.legend()
    for axes in (cost, rate):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.suptitle(f"{profile.model} version {profile.version}, {profile.runtime}")
    figure.savefig(file, dpi=120)
