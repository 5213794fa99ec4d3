"""Which core a run runs on."""

import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from time import monotonic, thread_time

SCHEDSTAT = Path("/proc/thread-self/schedstat")
LOOK_SECONDS = 0.5  # between two looks at how long a thread had to wait for its core
UNEVEN = 0.4  # difference of two such shares for which threads may go where they like
REST_SECONDS = 60.0  # until they are pinned again
# Seconds of CPU of a run, below which the thread's next one goes where the scheduler likes: as long
# it would wait on its own core for the event loop, while another core idles.
FLEETING = 0.001


class Cores:
    """The CPUs that runs are spread over, each run on one of its own while there are enough.

    Left alone, the kernel's scheduler now and then lets two executors share a core while another
    idles: threads that sleep between runs look as if they needed none. It is left alone all the
    same without `cpus`, with fleeting runs, and for a while when somebody else keeps a core busy.
    """

    def __init__(self, cpus: Iterable[int] = ()) -> None:
        self._lock = Lock()
        self._runs = dict.fromkeys(sorted(cpus), 0)
        self._looks: dict[int, tuple[float, float]] = {}
        self._rests_until = 0.0

    @property
    def all(self) -> set[int]:
        """The CPUs."""
        return set(self._runs)

    def take(self, last: int | None) -> int | None:
        """Return a CPU with the fewest runs, `last` if that is one; None to leave it open."""
        with self._lock:
            if not self._runs or monotonic() < self._rests_until:
                return None
            cpu = min(self._runs, key=lambda one: (self._runs[one], one != last))
            self._runs[cpu] += 1
            return cpu

    def give_back(self, cpu: int) -> None:
        """A run on this CPU is over."""
        with self._lock:
            self._runs[cpu] -= 1

    def crowded(self, cpu: int, share: float, since: float) -> None:
        """Since then, a thread waited for this CPU in such a share of the time it wanted it."""
        now = monotonic()
        with self._lock:
            self._looks[cpu] = now, share
            others = [one for one in self._runs if one != cpu]
            seen = [self._looks[one] for one in others if one in self._looks]
            lately = [crowding for when, crowding in seen if when >= since - LOOK_SECONDS]
            # Others run, and none of them has looked yet: our own event loop may crowd all.
            unknown = not lately and any(self._runs[one] for one in others)
            if share - min(lately, default=0.0) > UNEVEN and not unknown:
                self._rests_until = now + REST_SECONDS

    def give_up(self) -> None:
        """Leave the scheduler alone for good."""
        self._rests_until = float("inf")


class Seat:
    """A thread's place on one of the `cores`: what it does in a block, it does there.

    Where it sat last it sits again if it can: the caches there still hold what it needs.
    """

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._cpu: int | None = None
        self._pinned: int | None = None
        self._began, self._fleeting = 0.0, False
        self._ran, self._waited, self._looked = 0, 0, monotonic()

    def __enter__(self) -> None:
        """Sit down."""
        self._cpu = None if self._fleeting else self._cores.take(self._pinned)
        if self._cpu != self._pinned:
            self._pin(self._cpu)
        self._began = thread_time()

    def __exit__(self, *error: object) -> None:
        """Make room; the thread stays where it is until it has to move."""
        self._fleeting = thread_time() - self._began < FLEETING
        if self._cpu is not None:
            self._cores.give_back(self._cpu)
            if monotonic() > self._looked + LOOK_SECONDS:
                self._look(self._cpu)

    def _pin(self, cpu: int | None) -> None:
        self._pinned = cpu
        try:
            os.sched_setaffinity(0, self._cores.all if cpu is None else {cpu})
        except OSError:  # the container may use other CPUs now than at first
            self._cores.give_up()

    def _look(self, cpu: int) -> None:
        ran, waited, since = self._ran, self._waited, self._looked
        self._ran, self._waited = map(int, SCHEDSTAT.read_text().split()[:2])
        self._looked = monotonic()
        if wanted := self._ran - ran + self._waited - waited:
            self._cores.crowded(cpu, (self._waited - waited) / wanted, since)
