"""Is work-conserving batching better than a fixed wait?

    python -m tests.measurements.batching MODEL …

The same service twice, the second time with the rule that most servers come with: a batch starts
when 8 wait, or when the first of them has waited for 10 ms. Closed loops, turn about in one run.
Ours may have 5 % less throughput, and must have the lower p99, at every load. Exit status 1 if not.
"""

import asyncio
import json
import math
import sys
from statistics import median
from time import monotonic
from typing import TypeVar

from convserve import cli, served_model
from convserve.engine.batcher import Batcher
from loadtests.generator import Figures, Generator, generator
from loadtests.options import options
from loadtests.samples import Sample, read_model
from loadtests.server import Server, convserve
from loadtests.table import markdown

SIZE, SECONDS = 8, 0.010
TOLERANCE = 0.9  # timers may ring a little early
USERS = (1, 8, 32)
LEAST = 0.95
RULES = ("ours", "fixed")
VERDICTS = {True: "", False: "missed"}

P = TypeVar("P")
R = TypeVar("R")


class FixedBatcher(Batcher[P, R]):
    """Waits for a full batch, or for the first's time to be up."""

    _since = math.inf  # when the next batch began to wait

    def _dispatch(self) -> None:
        waiting = len(self._waiting)
        if not waiting:
            self._since = math.inf
        elif self._since == math.inf:
            self._wait_on()
        if waiting >= SIZE or monotonic() - self._since >= TOLERANCE * SECONDS:
            super()._dispatch()
            if len(self._waiting) < waiting:
                self._wait_on()

    def _wait_on(self) -> None:
        self._since = monotonic()
        asyncio.get_running_loop().call_later(SECONDS, self._dispatch)

    def _idle(self) -> int:
        return min(1, super()._idle())  # no sharing with the other executors


def serve_fixed() -> None:
    """Be the second service."""
    served_model.Batcher = FixedBatcher  # type: ignore[attr-defined]
    sys.argv[1:] = ["serve"]
    cli.main()


def main() -> int:
    """Measure, print a table, write it."""
    parser = options(__doc__, seconds=3.0, rounds=3)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    asked = parser.parse_args()
    environment = {"CONVSERVE_MODELS": ",".join(asked.models)}
    with (
        generator(asked.seconds, 10_000) as load,
        convserve(asked.store, environment) as ours,
        convserve(
            asked.store, environment, module=("tests.measurements.batching", "serve")
        ) as other,
    ):
        servers = dict(zip(RULES, (ours, other), strict=True))
        samples = [read_model(asked.store / model, 65536)[0] for model in asked.models]
        rows = [
            compare(load, servers, sample, users, asked.rounds)
            for sample in samples
            for users in USERS
        ]
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "batching.json").write_text(json.dumps(rows, indent=1) + "\n")
    (asked.out / "batching.md").write_text(page(rows))
    print(page(rows))
    return int(not all(row["good"] for row in rows))


def compare(
    load: Generator, servers: dict[str, Server], sample: Sample, users: int, rounds: int
) -> Figures:
    """Return medians of throughput (1/s) and p99 (ms) by rule, and whether ours is good."""
    found: dict[str, list[Figures]] = {rule: [] for rule in RULES}
    for _ in range(rounds):
        for rule, server in servers.items():
            found[rule].append(load.loop(server, sample, users))
    row: Figures = {"model": sample.model, "users": users}
    for rule, steps in found.items():
        row[rule] = {
            "throughput": median(step["goodput_rps"] for step in steps),
            "p99": median(step["ok_p99_ms"] for step in steps),
        }
    enough = row["ours"]["throughput"] >= LEAST * row["fixed"]["throughput"]
    return row | {"good": enough and row["ours"]["p99"] < row["fixed"]["p99"]}


def page(rows: list[Figures]) -> str:
    """Return the table."""
    head = ["model", "users", "answers/s, ours", "fixed 8 / 10 ms", "ours / fixed"]
    return markdown([*head, "p99 ms, ours", "fixed", ""], map(_cells, rows)) + "\n"


def _cells(row: Figures) -> list[str]:
    ours, fixed = row["ours"], row["fixed"]
    rates = [f"{one['throughput']:.0f}" for one in (ours, fixed)]
    ratio = f"{ours['throughput'] / fixed['throughput']:.2f}"
    times = [f"{one['p99']:.1f}" for one in (ours, fixed)]
    return [f"`{row['model']}`", str(row["users"]), *rates, ratio, *times, VERDICTS[row["good"]]]


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve_fixed()
    else:
        sys.exit(main())
