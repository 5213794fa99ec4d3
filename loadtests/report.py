"""Turn a run's measurements into a page: `python -m loadtests.report DIR`.

Reads DIR/closed.json and DIR/open.json, as far as they exist, and writes DIR/README.md with a
plot of throughput and of p50, p95 and p99 against load for each.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: there is no screen

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from loadtests.record import TOTAL
from loadtests.table import LOADS, table

STYLES = {"p50": "-", "p95": "--", "p99": ":"}


def main(directory: Path) -> None:
    """Write the page and its plots."""
    parts = ["# Load test\n"]
    for path in (directory / f"{loop}.json" for loop in LOADS):
        if path.exists():
            run = json.loads(path.read_text())
            plot(run, path.with_suffix(".png"))
            parts.append(section(run))
    if len(parts) == 1:
        raise SystemExit(f"{directory} holds neither closed.json nor open.json: run `make load`")
    (directory / "README.md").write_text("\n".join(parts))
    print(f"wrote {directory / 'README.md'}")


def section(run: dict[str, Any]) -> str:
    """Return the Markdown of one loop: circumstances, plot, table."""
    loop = run["loop"]
    return f"""## {loop.capitalize()} loop

{run["date"]}, server {run["host"]}, generator on {run["generator"]}. Models
{", ".join(run["models"])}; {run["samples"]} samples of {run["mean_bytes"]} bytes on average. Each
step lasts {run["seconds"]:g} s, the first {run["settle"]:g} s not counted. A wrong answer is a
failure. Locust itself uses the generator's CPU: on one machine with the server it takes part of
the throughput.

{verdict(run)}

![{loop} loop: throughput and latency against load]({loop}.png)

{table(run)}
"""


def verdict(run: dict[str, Any]) -> str:
    """Return what the thresholds said."""
    if not run["missed"]:
        return "Every threshold was met."
    return "**Thresholds missed:** " + "; ".join(run["missed"]) + "."


def plot(run: dict[str, Any], path: Path) -> None:
    """Draw throughput and latency against load, a colour per model, a dash per percentile."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    names = list(run["steps"][0]["models"])
    loads = [step["load"] for step in run["steps"]]
    for name, colour in zip(names, mpl.color_sequences["tab10"], strict=False):
        figures = [step["models"][name] for step in run["steps"]]
        left.plot(loads, [f["throughput"] for f in figures], "o-", color=colour, label=name)
        if name == TOTAL:
            continue
        for q, style in STYLES.items():
            # None, a step without an answer, leaves a gap.
            values = [float("nan") if f[q] is None else f[q] for f in figures]
            right.plot(loads, values, style, marker=".", color=colour, label=f"{name} {q}")
    if run["loop"] == "open":
        left.plot(loads, loads, color="0.6", linewidth=1, zorder=0, label="asked for")
    _dress(left, run["loop"], loads, "throughput, answers per second")
    _dress(right, run["loop"], loads, "latency, ms")
    left.set_ylim(bottom=0)
    right.set_yscale("log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter(NullFormatter())
    figure.suptitle(f"{run['loop'].capitalize()} loop: {', '.join(run['models'])}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _dress(axes: Axes, loop: str, loads: list[float], label: str) -> None:
    if loop == "closed":
        axes.set_xscale("log", base=2)
    axes.set_xticks(loads, [f"{load:g}" for load in loads])
    axes.minorticks_off()
    axes.set_xlabel(LOADS[loop])
    axes.set_ylabel(label)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize="small")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "loadtests/report"))
