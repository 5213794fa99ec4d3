"""Is work-conserving batching better than a fixed wait?

    python -m tests.measurements.batching MODEL …

The same service twice, the second time with the rule that most servers come with: a batch starts
when 8 wait, or when the first of them has waited for 10 ms. Turn about in one run, Poisson arrivals
at three shares of what ours answers to 32 users, and those users themselves: a closed loop, which
tells throughput and hides queueing, all the more where users in step fill batches of 8. Ours may
have 5 % less throughput at every load, and must have the lower p99 where arrivals are open. Exit
status 1 if not.
"""

import asyncio
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from time import monotonic
from typing import Any, TypeVar

from convserve import cli, served_model
from convserve.engine.batcher import Batcher
from convserve.engine.isolation import Run
from loadtests.generator import Figures, Generator, generator
from loadtests.options import options
from loadtests.samples import Sample, read_model
from loadtests.server import Server, convserve
from loadtests.table import markdown

SIZE, SECONDS = 8, 0.010
TOLERANCE = 0.9  # timers may ring a little early
SHARES = (0.25, 0.5, 0.8)
USERS = (1, 8, 32)  # the last tell what is the most
LEAST = 0.95
RULES = ("ours", "fixed")
VERDICTS = {True: "", False: "missed"}

P = TypeVar("P")
R = TypeVar("R")


class FixedBatcher(Batcher[P, R]):
    """Waits for a full batch, or for the first's time to be up."""

    _since = math.inf  # when the next batch began to wait

    def __init__(self, run: Run[P, R], **given: Any) -> None:
        super().__init__(run, **given)
        free = self._runs.idle
        # No sharing with the other executors, be they idle or busy.
        self._runs.idle = lambda: min(1, free())  # type: ignore[method-assign]
        self._runs.sizes = list  # type: ignore[method-assign]

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
        rows = [row for sample in samples for row in compare(load, servers, sample, asked.rounds)]
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "batching.json").write_text(json.dumps(rows, indent=1) + "\n")
    (asked.out / "batching.md").write_text(page(rows))
    print(page(rows))
    return int(not all(row["good"] for row in rows))


def compare(
    load: Generator, servers: dict[str, Server], sample: Sample, rounds: int
) -> Iterator[Figures]:
    """Yield medians of throughput (1/s) and p99 (ms) by rule, and whether ours is good, by load."""
    most = 0.0
    for users in USERS:
        row = medians(servers, partial(looped, load, sample, users), rounds)
        most = row["ours"]["throughput"]
        yield {"model": sample.model, "load": f"{users} users", **row, "good": enough(row)}
    for share in SHARES:
        rate = share * most
        row = medians(servers, partial(load.offer, sample=sample, rate=rate), rounds)
        quick = row["ours"]["p99"] < row["fixed"]["p99"]
        told = f"{share:g} × the most: {rate:.0f}/s"
        yield {"model": sample.model, "load": told, **row, "good": enough(row) and quick}


def looped(load: Generator, sample: Sample, users: int, server: Server, seed: int) -> Figures:
    """Let so many users ask in a closed loop, which has nothing to draw from `seed`."""
    return load.loop(server, sample, users)


def medians(
    servers: dict[str, Server], step: Callable[..., Figures], rounds: int
) -> dict[str, Figures]:
    """Return what a step finds, by rule."""
    found: dict[str, list[Figures]] = {rule: [] for rule in RULES}
    for seed in range(rounds):
        for rule, server in servers.items():
            found[rule].append(step(server, seed=seed))
    return {
        rule: {
            "throughput": median(step["goodput_rps"] for step in steps),
            "p99": median(step["ok_p99_ms"] for step in steps),
        }
        for rule, steps in found.items()
    }


def enough(row: dict[str, Figures]) -> bool:
    """Tell whether ours answers as many, but for the allowance."""
    least: float = LEAST * row["fixed"]["throughput"]
    return bool(row["ours"]["throughput"] >= least)


def page(rows: list[Figures]) -> str:
    """Return the table."""
    head = ["model", "load", "answers/s, ours", "fixed 8 / 10 ms", "ours / fixed"]
    return markdown([*head, "p99 ms, ours", "fixed", ""], map(_cells, rows)) + "\n"


def _cells(row: Figures) -> list[str]:
    ours, fixed = row["ours"], row["fixed"]
    rates = [f"{one['throughput']:.0f}" for one in (ours, fixed)]
    ratio = f"{ours['throughput'] / fixed['throughput']:.2f}"
    times = [f"{one['p99']:.1f}" for one in (ours, fixed)]
    return [f"`{row['model']}`", row["load"], *rates, ratio, *times, VERDICTS[row["good"]]]


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve_fixed()
    else:
        sys.exit(main())
