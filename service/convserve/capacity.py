"""`convserve profile MODEL --target-rps R --p99 MS`: how many cores and replicas that takes.

A request costs the processor its runs (the cost curve) and what surrounds them: HTTP, byte work,
batching. Both together are measured here, on the loopback, at full load: the CPU seconds of the
whole process per answer, and those of its event loop, which is one thread and cannot be shared.
Cores divided by the one, or one by the other, is where a replica saturates. How near to it the
p99 allows to go is what the M/M/c queue says (Erlang, 1917), which is on the safe side: runs vary
less than that.
"""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from math import ceil, log
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, process_time, thread_time

import uvicorn

from convserve.app import create_app
from convserve.errors import InvalidArtifact
from convserve.profiling import Profile
from convserve.repository import Repository
from convserve.settings import InvalidSettings, Settings

USERS = 16  # who ask at once, so that batches fill
SETTLE_SECONDS, SECONDS = 1.0, 4.0
CORES = (1, 2, 4, 8)
FULLEST = 0.95  # of saturation, however patient the callers are


@dataclass(frozen=True, slots=True)
class RequestCost:
    """CPU seconds per request: of the whole process, and of its event loop among them; and bytes.

    The bytes are those of the bodies.
    """

    cpu_seconds: float
    loop_seconds: float
    request_bytes: int
    answer_bytes: int

    def saturation(self, cores: int) -> float:
        """Return the most requests per second of a replica."""
        return min(cores / self.cpu_seconds, 1 / self.loop_seconds)


@dataclass(frozen=True, slots=True)
class Option:
    """A replica of so many `cores`, and how many of them there must be."""

    cores: int
    saturation: float
    takes: float
    replicas: int


def plan(settings: Settings, found: Profile, rps: float, p99: float, out: Path | None) -> None:
    """Measure what requests cost and print replicas for `rps` within `p99` seconds.

    The figures are added to the JSON file `out`. Raises InvalidSettings if even a request that is
    alone takes longer than `p99`, and InvalidArtifact without a golden.
    """
    cost = _measure(settings, found.model)
    alone = cost.loop_seconds + found.curve[0][1]
    if alone >= p99:
        raise InvalidSettings(
            f"--p99 {p99 * 1e3:g}: a request takes {alone * 1e3:.1f} ms even when it is alone"
        )
    options = [option(cost, alone, cores, rps, p99) for cores in CORES]
    print("\n".join(_table(cost, options, rps, p99)))
    if out:
        figures = json.loads(out.read_text())
        figures["capacity"] = asdict(cost) | {"options": [asdict(one) for one in options]}
        out.write_text(json.dumps(figures, indent=1) + "\n")


def option(cost: RequestCost, alone: float, cores: int, rps: float, p99: float) -> Option:
    """Return how many replicas of so many cores answer `rps` within `p99` > `alone` seconds."""
    saturation = cost.saturation(cores)
    takes = saturation * fullness(cores / saturation, cores, p99 - alone)
    return Option(cores, saturation, takes, ceil(rps / takes))


def fullness(service: float, servers: int, patience: float) -> float:
    """Return which share of its capacity an M/M/c queue may be given, at most 0.95.

    So that 99 of 100 wait no longer than `patience` for a server that takes `service` seconds.
    """
    low, high = 0.0, FULLEST
    if wait99(service, servers, high) <= patience:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if wait99(service, servers, middle) <= patience else (low, middle)
        )
    return low


def wait99(service: float, servers: int, load: float) -> float:
    """Return the 99th percentile of the wait in an M/M/c queue, in seconds; `load` from 0 to 1."""
    waiting = erlang_c(servers, load)
    return max(0.0, log(100 * waiting)) * service / (servers * (1 - load)) if waiting else 0.0


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that who comes has to wait."""
    blocked = 1.0
    for n in range(1, servers + 1):  # Erlang B, by its recursion
        offered = servers * load * blocked
        blocked = offered / (n + offered)
    return blocked / (1 - load * (1 - blocked))


def _table(cost: RequestCost, options: list[Option], rps: float, p99: float) -> Iterator[str]:
    cpu, loop = cost.cpu_seconds * 1e3, cost.loop_seconds * 1e3
    yield f"a request: {cpu:.3f} ms of CPU, {loop:.3f} of them on the event loop"
    limit = f"1/s within {p99 * 1e3:g} ms"
    yield f"cores | saturates at, 1/s | {limit} | replicas for {rps:g}/s"
    for one in options:
        yield (
            f"{one.cores:5} | {one.saturation:17.0f} | {one.takes:{len(limit)}.0f} | {one.replicas}"
        )
    best = min(options, key=lambda one: (one.cores * one.replicas, one.replicas))
    yield f"fewest cores: {best.replicas} replica(s) of {best.cores} core(s)"


def _measure(settings: Settings, name: str) -> RequestCost:
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="on",
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(_serve_and_ask(uvicorn.Server(config), app.repository, name))


async def _serve_and_ask(server: uvicorn.Server, repository: Repository, name: str) -> RequestCost:
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn offers nothing to wait for
        await asyncio.sleep(0.01)
    try:
        return await _ask(server.servers[0].sockets[0].getsockname()[1], repository, name)
    finally:
        server.should_exit = True
        await serving


async def _ask(port: int, repository: Repository, name: str) -> RequestCost:
    await repository.settled()
    model = await repository.get(name)
    goldens = model.artifact.manifest.goldens
    if not goldens:
        raise InvalidArtifact(f"{name} has no golden to ask with", "add one")
    body = (model.artifact.path / goldens[0].input).read_bytes()
    question = (port, f"/v1/models/{name}/predict", body, goldens[0].media_type)
    loop = asyncio.get_running_loop()
    # In a process of their own: whoever asks must not share an interpreter with who answers.
    with ProcessPoolExecutor(1, get_context("spawn")) as users:
        await loop.run_in_executor(users, crowd, *question, SETTLE_SECONDS)
        process, thread = process_time(), thread_time()
        answers = await loop.run_in_executor(users, crowd, *question, SECONDS)
        process, thread = process_time() - process, thread_time() - thread
    count = max(1, len(answers))
    return RequestCost(process / count, thread / count, len(body), sum(answers) // count)


def crowd(port: int, path: str, body: bytes, media_type: str, seconds: float) -> list[int]:
    """Ask with many connections, each again once it is answered; return the answers' sizes."""
    end = monotonic() + seconds

    def user(_: int) -> list[int]:
        connection, sizes = HTTPConnection("127.0.0.1", port, timeout=60), []
        while monotonic() < end:
            connection.request("POST", path, body, {"Content-Type": media_type})
            answer = connection.getresponse()
            size = len(answer.read())
            if answer.status == 200:
                sizes.append(size)
        connection.close()
        return sizes

    with ThreadPoolExecutor(USERS) as pool:
        return [size for sizes in pool.map(user, range(USERS)) for size in sizes]
