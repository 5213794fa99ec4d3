"""Measurements as Markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from loadtests.record import QUANTILES

LOADS = {"closed": "concurrent users", "open": "arrivals per second (Poisson)"}


def table(run: dict[str, Any]) -> str:
    """Return a row per step and model."""
    head = [LOADS[run["loop"]], "model", "requests", "answers/s", *(f"{q} ms" for q in QUANTILES)]
    rows = [
        [f"{step['load']:g}", name, *_cells(figures)]
        for step in run["steps"]
        for name, figures in step["models"].items()
    ]
    return markdown([*head, "failed"], rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of these cells, without a line break at its end."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(figures: dict[str, Any]) -> list[str]:
    times = ("–" if figures[q] is None else f"{figures[q]:.1f}" for q in QUANTILES)
    failed = ", ".join(f"{n} × {why}" for why, n in figures["failures"].items()) or "0"
    return [str(figures["requests"]), f"{figures['throughput']:.1f}", *times, failed]
