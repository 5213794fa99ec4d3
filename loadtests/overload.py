"""Goodput under overload: `python -m loadtests.overload [--largest] [--out DIR]`.

Open loop, Poisson arrivals, a deadline on every request, latency from the scheduled arrival. Rates
climb until answers no longer keep up. Then the rate that did best is offered again, and 0.5, 1, 2
and 3 times what was answered there, round after round: the best median is the peak, for a single
step may have met a quick moment of the machine. Under overload the goodput is held against

    95 % of peak × (1 − (refusals/s × CPU of a null refusal + generator's extra CPU) / cores)

where a null refusal is what `loadtests.refuser` needs on the same machine in the same run. Needs a
C compiler for the generator, which takes about a tenth of a core.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: there is no screen

import matplotlib.pyplot as plt

from loadtests.generator import Figures, Generator, generator
from loadtests.options import conditions, options
from loadtests.samples import Sample, read_store
from loadtests.server import Server, convserve, refuser
from loadtests.table import markdown

FACTORS = (0.5, 1.0, 2.0, 3.0)
BEST = "the climb's best rate"
CLIMB = 1.25  # from one rate to the next
KEEPS_UP = 0.9  # of what is offered
SHARE = 0.95
REFUSED_P50, REFUSED_P99 = 10.0, 30.0  # ms


def climb(load: Generator, server: Server, sample: Sample) -> Iterator[Figures]:
    """Offer ever more until goodput falls behind."""
    rate = 100.0
    while True:
        figures = load.offer(server, sample, rate, seed=1)
        yield figures
        if figures["goodput_rps"] * load.seconds < KEEPS_UP * figures["sent"]:
            return
        rate *= CLIMB


def measure(load: Generator, server: Server, sample: Sample, rounds: int) -> Figures:
    """Return the climb, the peak, and the median figures at the peak's rate and multiples of it."""
    climbed = list(climb(load, server, sample))
    best = max(climbed, key=_goodput)
    rates = {_times(factor): factor * _goodput(best) for factor in FACTORS} | {BEST: best["rate"]}
    offered: dict[str, list[Figures]] = {name: [] for name in rates}
    for number in range(rounds):
        for name, steps in offered.items():
            steps.append(load.offer(server, sample, rates[name], seed=number + 2))
    summary = {name: medians(found) for name, found in offered.items()}
    peak = max(map(_goodput, summary.values()))
    return {"model": sample.model, "climb": climbed, "peak": peak, "steps": summary}


def _times(factor: float) -> str:
    return f"{factor:g} × its goodput"


def _goodput(step: Figures) -> float:
    goodput: float = step["goodput_rps"]
    return goodput


def medians(steps: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return {name: median(step[name] for step in steps) for name in steps[0]}


def null_refusal(load: Generator, sample: Sample) -> float:
    """Return the CPU seconds that the cheapest server needs to refuse one request."""
    with refuser() as server:
        figures = load.offer(server, sample, 2000, seed=1)
        cpu: float = figures["server_cpu"] / figures["answered"]
        return cpu


def bar(step: Figures, at_peak: Figures, peak: float, null: float, seconds: float) -> float:
    """Return the goodput that is asked under overload."""
    cores = len(os.sched_getaffinity(0))
    extra = max(0.0, step["generator_cores"] - at_peak["generator_cores"])
    spent: float = step["429"] / seconds * null + extra
    return SHARE * peak * (1 - spent / cores)


def rows(measured: Figures, null: float, load: Generator) -> Iterator[list[str]]:
    """Yield a table row for each multiple of the peak."""
    at_peak = measured["steps"][_times(1)]
    overload = [_times(factor) for factor in FACTORS if factor > 1]
    for name, step in measured["steps"].items():
        asked = bar(step, at_peak, measured["peak"], null, load.seconds)
        yield [
            measured["model"],
            f"{name}: {step['rate']:.0f}",
            f"{step['goodput_rps']:.0f}",
            f"{asked:.0f}" if name in overload else "–",
            f"{step['goodput_rps'] / measured['peak']:.2f}",
            f"{step['ok_p99_ms']:.0f}",
            f"{step['429'] / load.seconds:.0f}",
            f"{step['refused_p50_ms']:.1f} / {step['refused_p99_ms']:.1f}",
            f"{step['504']:.0f} · {step['unanswered']:.0f}",
        ]


HEAD = [
    "model", "offered/s", "goodput/s", "bar", "of peak", "answers p99 ms", "refused/s",
    "refusals p50 / p99 ms", "504 · unanswered",
]  # fmt: skip


def page(record: Figures, load: Generator) -> str:
    """Return the Markdown of a record."""
    lines = (
        row for measured in record["models"] for row in rows(measured, record["null_refusal"], load)
    )
    table = markdown(HEAD, lines)
    return f"""# Goodput under overload

`python -m loadtests.overload`, {record["date"]}, {record["machine"]}. Deadline
{load.deadline:g} ms, {load.seconds:g} s a step, medians of {record["rounds"]} rounds. A
null refusal takes {1e6 * record["null_refusal"]:.0f} µs of CPU here. Bars for refusals: p50 under
{REFUSED_P50:g} ms, p99 under {REFUSED_P99:g} ms; for answers: p99 within the deadline.

![goodput against offered load](overload.png)

{table}
"""


def plot(record: Figures, path: Path) -> None:
    """Draw goodput against offered load."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for measured in record["models"]:
        steps = [*measured["climb"], *measured["steps"].values()]
        steps.sort(key=lambda step: step["rate"])
        rates = [step["rate"] for step in steps]
        axes.plot(rates, [s["goodput_rps"] for s in steps], "o-", label=measured["model"])
    axes.axline((0, 0), slope=1, color="0.7", linewidth=1, zorder=0, label="offered")
    axes.set(xlabel="offered, requests/s (Poisson)", ylabel="answers within the deadline, per s")
    axes.set_ylim(0, 1.3 * max(measured["peak"] for measured in record["models"]))
    axes.grid(color="0.9")
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bytes(sample: Sample) -> int:
    return len(sample.body)


def main() -> None:
    """Measure and write the record."""
    parser = options(__doc__, seconds=6, rounds=3)
    parser.add_argument("--largest", action="store_true", help="send each model's largest golden")
    parser.add_argument("--deadline", type=float, default=100, help="milliseconds")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    found = read_store(asked.store, 65536).values()
    samples = [max(some, key=_bytes) if asked.largest else some[0] for some in found]
    with generator(asked.seconds, asked.deadline) as load:
        record: Figures = {
            **conditions(asked),
            "null_refusal": null_refusal(load, samples[0]),
            "models": [],
        }
        with convserve(asked.store) as server:
            for sample in samples:
                record["models"].append(measure(load, server, sample, asked.rounds))
    (asked.out / "overload.json").write_text(json.dumps(record, indent=1))
    plot(record, asked.out / "overload.png")
    (asked.out / "README.md").write_text(page(record, load))
    print(page(record, load))


if __name__ == "__main__":
    main()
