"""The CPU budget: how many cores this process may really use, how to spend them, and whether the
kernel holds it up for using more.

A container sees all cores of its host but is throttled to its quota. What binds a process is
its scheduler affinity ∩ cpuset ∩ CFS quota, the last two of its own control group and of every
group above it that can be seen (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`; see the kernel's
Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst).
"""

import asyncio
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from convserve.engine.cgroup import groups, read
from convserve.engine.cores import SCHEDSTAT, Cores

NICENESS = 10  # of executors
MUCH = 0.05  # of the periods throttled: latencies are no longer the model's

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """So many `cores` (may be a fraction) for that `reason`, spent on executors.

    Executors are single-threaded: runs side by side beat one run on all threads on nearly
    every model and machine that was measured. `spread` is where they run: nowhere in particular
    unless they may use every core that they see.
    """

    cores: float
    reason: str
    executors: int
    threads_per_executor: int = 1
    spread: Cores = field(default_factory=Cores, compare=False, repr=False)


def cpu_budget(
    override: float | None = None, *, root: Path = Path("/"), affinity: set[int] | None = None
) -> CpuBudget:
    """Detect the cores of this process, or take `override` cores instead.

    `root` holds `proc` and `sys`; `affinity` is the set of CPUs that the scheduler allows, by
    default this process's own. Raises ValueError unless `override` is a number above 0.
    """
    if override is not None and not 0 < override < math.inf:
        raise ValueError(f"CPU cores must be above 0, not {override}; unset means detected")
    affinity = affinity or _affinity()
    cores, cause = min(_limits(root, affinity), key=lambda limit: limit[0])
    if override is not None:
        cores, cause = override, f"set by configuration; {cores:g} allowed by {cause}"
    executors = max(1, math.floor(cores))
    reason = f"{cores:g} CPU cores ({cause}), hence {executors} single-threaded executor(s)"
    spread = Cores(affinity if executors >= len(affinity) and _can_pin() else ())
    return CpuBudget(cores, reason, executors, spread=spread)


def give_way(niceness: int = NICENESS) -> None:
    """Let the event loop's thread go before this one where they compete for a core.

    Both have work at all times under overload. An event loop that waits for its turn reads requests
    late, and what it then predicts for them is late, too. On Linux each thread has a niceness.
    """
    if sys.platform == "linux":
        os.nice(niceness)


def cpu_identity(root: Path = Path("/")) -> str:
    """Return what tells this kind of CPU from others: its name and its instruction sets."""
    found = re.findall(
        r"^(?:model name|flags|Features)\s*: (.*)$", read(root / "proc/cpuinfo"), re.MULTILINE
    )
    return " ".join(sorted({*found}))


@dataclass(frozen=True, slots=True)
class Throttling:
    """What the CFS quota has cost so far: periods, those cut short, and seconds of standstill."""

    periods: int = 0
    throttled: int = 0
    seconds: float = 0.0

    def share_since(self, before: "Throttling") -> float:
        """Return which share of the periods since then was cut short, 0 to 1."""
        return (self.throttled - before.throttled) / max(1, self.periods - before.periods)


def throttling(root: Path = Path("/")) -> Throttling:
    """Read `cpu.stat` of the control group, own or above, that is throttled most."""
    found = map(_throttling, groups(root))
    return max(found, key=lambda one: (one.throttled, one.periods), default=Throttling())


async def watch_throttling(
    every: float = 60.0, read: Callable[[], Throttling] = throttling
) -> None:
    """Warn, every so many seconds, if more than 5 % of the periods since then were throttled."""
    before = read()
    while True:
        await asyncio.sleep(every)
        now = read()
        if (share := now.share_since(before)) > MUCH:
            logger.warning(
                "the CPU quota held the service up in %.0f %% of the last periods, for %.1f s: "
                "raise the quota, or set cores to less",
                100 * share,
                now.seconds - before.seconds,
            )
        before = now


def _throttling(group: Path) -> Throttling:
    """v2 counts microseconds in `throttled_usec`, v1 nanoseconds in `throttled_time`."""
    stat = dict(re.findall(r"^(\w+) (\d+)$", read(group / "cpu.stat"), re.MULTILINE))
    seconds = int(stat.get("throttled_usec", 0)) / 1e6 + int(stat.get("throttled_time", 0)) / 1e9
    return Throttling(int(stat.get("nr_periods", 0)), int(stat.get("nr_throttled", 0)), seconds)


def _can_pin() -> bool:
    return hasattr(os, "sched_setaffinity") and SCHEDSTAT.exists()


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _limits(root: Path, affinity: set[int]) -> Iterator[tuple[float, str]]:
    yield float(len(affinity)), "scheduler affinity"
    for group in groups(root):
        if cpus := _cpuset(group) & affinity:
            yield float(len(cpus)), f"cpuset of {group}"
        if quota := _quota(group):
            yield quota, f"CPU quota of {group}, {len(affinity)} visible"


def _quota(group: Path) -> float | None:
    """Cores by CFS quota; None if there is no limit ("max" in v2, -1 in v1)."""
    v2 = read(group / "cpu.max").split()
    v1 = [read(group / f"cpu.cfs_{what}_us").strip() for what in ("quota", "period")]
    for numbers in (v2, v1):
        if len(numbers) == 2 and all(number.isdecimal() and int(number) for number in numbers):
            return int(numbers[0]) / int(numbers[1])
    return None


def _cpuset(group: Path) -> set[int]:
    """The CPUs of a list such as "0-3,8"; empty if the group has none."""
    text = read(group / "cpuset.cpus.effective") or read(group / "cpuset.effective_cpus")
    ranges = re.findall(r"(\d+)(?:-(\d+))?", text)
    return {cpu for low, high in ranges for cpu in range(int(low), int(high or low) + 1)}
