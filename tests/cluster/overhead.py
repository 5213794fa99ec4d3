"""What a request costs through Ray Serve, and what without: `python -m tests.cluster.overhead`.

The single service and one replica, a processor each, are asked in turns, round after round, by
the same clients over connections that stay open. CPU is that of all of the server's processes.
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from os import getpid
from pathlib import Path
from statistics import median, quantiles

from loadtests.server import TICKS, Server, convserve
from tests.cluster.local import STORE, Question, deploy, nodes, questions

ROUNDS = 5
SECONDS = 2.0
CLIENTS = (1, 16)


@dataclass(frozen=True)
class Round:
    """Of one round: answers per second, latencies and CPU of a request in milliseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float


def measured(port: int, question: Question, clients: int, cpu: Callable[[], float]) -> Round:
    """Ask for a while with so many clients."""
    used, begun = cpu(), time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        asked = [pool.submit(client, port, question, begun + SECONDS) for _ in range(clients)]
        taken = [seconds for one in asked for seconds in one.result()]
    elapsed, used = time.monotonic() - begun, cpu() - used
    cuts = quantiles(taken, n=100)
    count = len(taken)
    return Round(count / elapsed, cuts[49] * 1e3, cuts[98] * 1e3, used / count * 1e3)


def client(port: int, question: Question, end: float) -> list[float]:
    """Ask one request after the other; returns the seconds that each took."""
    connection, taken = HTTPConnection("127.0.0.1", port, timeout=60), []
    while (begun := time.monotonic()) < end:
        headers = {"Content-Type": question.media_type}
        connection.request("POST", question.path, question.body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        taken.append(time.monotonic() - begun)
    connection.close()
    return taken


def tree(root: int, without: set[int]) -> float:
    """Return the CPU seconds of the live descendants of `root`."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        fields, pid = rest.split(), int(head.split()[0])
        parents[pid], used[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS
    return sum(
        used[pid] for pid in parents if root in ancestors(pid, parents) and pid not in without
    )


def ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    """Yield the processes above one."""
    while pid := parents.get(pid, 0):
        yield pid


def compared(port: int, single: Server, question: Question, clients: int) -> Iterator[str]:
    """Yield a row for each way, of the medians over all rounds."""
    ways = {
        "alone": (single.port, single.cpu_seconds),
        "Ray Serve": (port, lambda: tree(getpid(), {single.pid})),
    }
    rounds: dict[str, list[Round]] = {way: [] for way in ways}
    for _ in range(ROUNDS + 1):
        for way, (at, cpu) in ways.items():
            rounds[way].append(measured(at, question, clients, cpu))
    model = question.path.split("/")[3]
    for way, found in rounds.items():
        counted = found[1:]  # the first one warms up
        of = [median(getattr(one, name) for one in counted) for name in Round.__annotations__]
        cells = [f"`{model}`", str(clients), way, f"{of[0]:.0f}", *(f"{ms:.2f}" for ms in of[1:])]
        yield f"| {' | '.join(cells)} |"


def main(port: int) -> None:
    """Print a table."""
    kinds = {question.media_type: question for question in reversed(questions())}
    asked = [kinds["image/png"], kinds["text/plain"]]
    with nodes(1, port), convserve(STORE, {"CONVSERVE_CORES": "1"}) as single:
        deploy(port, 1, min_replicas=1, max_replicas=1)
        print("| model | clients | way | answers/s | p50 ms | p99 ms | CPU ms |")
        print("|---|---|---|---|---|---|---|")
        for question in asked:
            for clients in CLIENTS:
                print("\n".join(compared(port, single, question, clients)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
