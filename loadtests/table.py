"""A run's measurements as a Markdown table."""

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
    return "\n".join("| " + " | ".join(row) + " |" for row in _with_rule([*head, "failed"], rows))


def _cells(figures: dict[str, Any]) -> list[str]:
    times = ("–" if figures[q] is None else f"{figures[q]:.1f}" for q in QUANTILES)
    failed = ", ".join(f"{n} × {why}" for why, n in figures["failures"].items()) or "0"
    return [str(figures["requests"]), f"{figures['throughput']:.1f}", *times, failed]


def _with_rule(head: list[str], rows: list[list[str]]) -> list[list[str]]:
    return [head, ["---"] * len(head), *rows]
