"""What a run measured, step by step, and whether it met its thresholds."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.plan import Plan

TOTAL = "total"
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass
class Tally:
    """One model in one step."""

    latencies: list[float] = field(default_factory=list)
    """Milliseconds of every answer to a request that was due in this step."""
    failures: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    """Good answers that arrived in this step."""

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return the figures; throughput in answers per second, latencies in milliseconds."""
        latencies = sorted(self.latencies)
        return {
            "requests": len(latencies) + self.failures.total(),
            "throughput": round(self.answered / seconds, 1),
            "failures": dict(self.failures),
            **{name: quantile(latencies, q) for name, q in QUANTILES.items()},
        }


@dataclass
class Record:
    """Collects every request of a run."""

    plan: Plan
    tallies: dict[tuple[int, str], Tally] = field(default_factory=lambda: defaultdict(Tally))

    def add(self, model: str, due: float, latency: float, failure: str | None) -> None:
        """Count a request due ``due`` seconds after the start and done ``latency`` seconds later.

        Its latency belongs to the step in which it was due, its answer to the step in which it
        came: a server that answers late must not look fast.
        """
        for name in (model, TOTAL):
            if (step := self.plan.counted_step_at(due)) is not None:
                if failure is None:
                    self.tallies[step, name].latencies.append(latency * 1000)
                else:
                    self.tallies[step, name].failures[failure] += 1
            done = self.plan.counted_step_at(due + latency)
            if failure is None and done is not None:
                self.tallies[done, name].answered += 1

    def steps(self) -> list[dict[str, Any]]:
        """Return a row per step: its load, and the figures of the total and of each model."""
        names = sorted({name for _, name in self.tallies}, key=lambda n: (n != TOTAL, n))
        counted = self.plan.seconds - self.plan.settle
        return [
            {"load": load, "models": {n: self.tallies[i, n].summary(counted) for n in names}}
            for i, load in enumerate(self.plan.loads)
        ]


@dataclass(frozen=True)
class Thresholds:
    """The bars of a run; None asks nothing."""

    max_p99: float | None = None
    """Milliseconds, in every step."""
    min_throughput: float | None = None
    """Answers per second, in the best step."""
    max_failure_ratio: float | None = None
    """Failures over requests, in the whole run."""

    def missed(self, steps: Sequence[dict[str, Any]]) -> Iterator[str]:
        """Yield one sentence for each bar that the steps do not reach."""
        totals = [step["models"][TOTAL] for step in steps if TOTAL in step["models"]]
        if not totals:
            yield "nothing was measured: no request was counted"
            return
        worst = max(math.inf if t["p99"] is None else t["p99"] for t in totals)
        best = max(t["throughput"] for t in totals)
        ratio = failure_ratio(totals)
        if self.max_p99 is not None and worst > self.max_p99:
            yield f"p99 is {worst} ms in the slowest step, at most {self.max_p99} ms is asked"
        if self.min_throughput is not None and best < self.min_throughput:
            yield f"throughput is {best}/s in the best step, {self.min_throughput}/s is asked"
        if self.max_failure_ratio is not None and ratio > self.max_failure_ratio:
            yield f"{ratio:.2%} of the requests failed, at most {self.max_failure_ratio:.2%} may"


def failure_ratio(totals: Sequence[dict[str, Any]]) -> float:
    """Return failures over requests of the given summaries."""
    failed: int = sum(sum(total["failures"].values()) for total in totals)
    requests: int = sum(total["requests"] for total in totals)
    return failed / max(1, requests)


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """Return the nearest-rank quantile of ascending values, None of none."""
    return round(ordered[max(0, math.ceil(q * len(ordered)) - 1)], 2) if ordered else None
