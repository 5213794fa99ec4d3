"""Chaos: clients that leave, stall, lie and send poison, all at once, against a server process.

    python -m tests.chaos [--requests 20000] [--leak]

Proves that nothing happens but what should: no status that the behaviour does not call for,
no answer lost, no queue entry or byte left behind, and resident memory that does not grow in the
second half. `--leak` runs a server that keeps 16 KiB of every request: the memory check must fail.
Exit status 0 if all held, 1 if not.
"""

import argparse
import asyncio
import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from tests.artifacts import IMAGE, TEXT, build_image, build_text, picture, text_graph
from tests.e2e.process import ROOT, Server, await_ready, serving
from tests.integration.test_poison import POISON, poisonous

CLIENTS = 24
SAMPLES = 200  # of resident memory, over the whole run
GROWTH = 8.0  # MiB that the second half may add
PATIENCE = 60.0  # seconds after which an answer is lost
MAX_BODY = 2**20
REFUSED = {429}
PICTURES = [picture(8, 8), picture(300, 200, "JPEG"), picture(20, 31, mode="RGBA")]
AT_IMAGE, AT_TEXT = (f"/v1/models/{name}/predict" for name in (IMAGE, TEXT))


@dataclass
class Chaos:
    """What happened: endings by behaviour, what should not have been, memory in MiB."""

    port: int
    pid: int
    endings: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    left: int = 0

    async def unleash(self, requests: int) -> None:
        """Let the clients make so many requests."""
        self.left, every = requests, max(1, requests // SAMPLES)
        await asyncio.gather(*(self._client(number, every) for number in range(CLIENTS)))

    async def _client(self, number: int, every: int) -> None:
        dice = random.Random(number)
        while self.left > 0:
            self.left -= 1
            if self.left % every == 0:
                self.resident.append(_resident(self.pid))
            behaviour = dice.choices(BEHAVIOURS, WEIGHTS)[0]
            name = behaviour.__name__
            try:
                async with asyncio.timeout(PATIENCE):
                    status, expected = await behaviour(Connection(self.port), dice)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.wrong.append(f"{name}: no answer: {error!r}")
                continue
            self.endings[f"{name} {status}"] += 1
            if status not in expected:
                self.wrong.append(f"{name}: {status}")


@dataclass
class Connection:
    """One request over one connection."""

    port: int
    streams: Any = None

    async def send(self, head: str, body: bytes = b"", length: int | None = None) -> None:
        self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        stated = len(body) if length is None else length
        lines = (
            f"POST {head}\r\nHost: chaos\r\nContent-Length: {stated}\r\nConnection: close\r\n\r\n"
        )
        await self.more(lines.encode() + body)

    async def more(self, data: bytes) -> None:
        self.streams[1].write(data)
        await self.streams[1].drain()

    async def status(self) -> int:
        line = await self.streams[0].readuntil(b"\r\n")
        await self.streams[0].read()
        self.leave()
        return int(line.split()[1])

    def leave(self) -> None:
        self.streams[1].transport.abort()


def _head(path: str, media: str, *more: str) -> str:
    return "\r\n".join([f"{path} HTTP/1.1", f"Content-Type: {media}", *more])


Outcome = tuple[int, set[int]]


async def good_picture(at: Connection, dice: random.Random) -> Outcome:
    await at.send(_head(AT_IMAGE, "image/png"), dice.choice(PICTURES))
    return await at.status(), {200} | REFUSED


async def good_text(at: Connection, dice: random.Random) -> Outcome:
    await at.send(_head(AT_TEXT, "text/plain"), f"text {dice.random()}".encode())
    return await at.status(), {200} | REFUSED


async def leaves_before_the_answer(at: Connection, dice: random.Random) -> Outcome:
    await at.send(_head(AT_TEXT, "text/plain"), b"goodbye")
    await asyncio.sleep(dice.choice([0, 0.001, 0.01]))
    at.leave()
    return 0, {0}


async def leaves_within_the_body(at: Connection, dice: random.Random) -> Outcome:
    body = dice.choice(PICTURES)
    await at.send(_head(AT_IMAGE, "image/png"), body[: len(body) // 2], len(body))
    await asyncio.sleep(dice.choice([0, 0.005]))
    at.leave()
    return 0, {0}


async def corrupt_picture(at: Connection, dice: random.Random) -> Outcome:
    body = bytearray(dice.choice(PICTURES))
    for _ in range(20):
        body[dice.randrange(len(body))] = dice.randrange(256)
    body = body[: dice.randrange(1, len(body))]
    await at.send(_head(AT_IMAGE, "image/png"), bytes(body))
    return await at.status(), {200, 413, 415, 422} | REFUSED  # a JPEG may survive


async def broken_json(at: Connection, dice: random.Random) -> Outcome:
    body = dice.choice([b"{", b'{"text": 1}', b'{"instances": []}', b"\xff\xfe", b"[]"])
    await at.send(_head(AT_TEXT, "application/json"), body)
    return await at.status(), {400, 422} | REFUSED


async def poison(at: Connection, dice: random.Random) -> Outcome:
    await at.send(_head(AT_TEXT, "text/plain"), POISON.encode())
    return await at.status(), {500} | REFUSED


async def slow_loris(at: Connection, dice: random.Random) -> Outcome:
    body = b"slowly, slowly"
    await at.send(_head(AT_TEXT, "text/plain"), b"", len(body))
    for byte in body:
        await asyncio.sleep(dice.random() * 0.05)
        await at.more(bytes([byte]))
    return await at.status(), {200} | REFUSED


async def oversize(at: Connection, dice: random.Random) -> Outcome:
    await at.send(_head(AT_IMAGE, "image/png"), bytes(1000), MAX_BODY + 1)
    return await at.status(), {413} | REFUSED


async def short_deadline(at: Connection, dice: random.Random) -> Outcome:
    head = _head(AT_TEXT, "text/plain", f"X-Request-Timeout-Ms: {dice.choice([1, 2, 5, 20])}")
    await at.send(head, b"quick")
    return await at.status(), {200, 504} | REFUSED


async def lost(at: Connection, dice: random.Random) -> Outcome:
    await at.send(_head("/v1/models/nobody/predict", "text/plain"), b"hello")
    return await at.status(), {404}


Behaviour = Callable[[Connection, random.Random], Awaitable[Outcome]]
KINDS: dict[Behaviour, int] = {
    good_picture: 25,
    good_text: 25,
    leaves_before_the_answer: 12,
    leaves_within_the_body: 6,
    corrupt_picture: 8,
    broken_json: 6,
    poison: 4,
    slow_loris: 2,
    oversize: 3,
    short_deadline: 8,
    lost: 1,
}
BEHAVIOURS, WEIGHTS = list(KINDS), list(KINDS.values())


def run(requests: int, leak: bool, folder: Path) -> list[str]:
    """Unleash so many requests on a new server and return what was wrong."""
    store = folder / "store"
    build_image(store)
    build_text(store, graph=poisonous(text_graph(rounds=0)))
    module = "tests.leaking" if leak else "convserve.cli"
    command = [sys.executable, "-m", module, "serve", "--store", str(store)]
    command += ["--max-body-bytes", str(MAX_BODY), "--log-level", "warning"]
    with serving(command, cwd=ROOT, log=folder / "log") as server:
        await_ready(server.client)
        chaos = Chaos(server.client.base_url.port or 0, server.process.pid)
        asyncio.run(chaos.unleash(min(500, requests // 4)))  # what only the first requests take
        chaos.resident.clear()
        started = monotonic()
        asyncio.run(chaos.unleash(requests))
        seconds = monotonic() - started
        wrong = [*chaos.wrong, *_left_behind(server)]
        server.client.close()
        if status := server.terminate():
            wrong.append(f"the server ended with {status}")
    for ending, count in sorted(chaos.endings.items()):
        print(f"{count:6} {ending}")
    print(f"{requests} requests in {seconds:.0f} s, {len(wrong)} endings that should not be")
    return wrong + _growth(chaos.resident)


def _left_behind(server: Server) -> list[str]:
    """Nobody waits, and no byte is held, once everybody is gone."""
    wanted = re.compile(r"^(convserve_(?:queue_depth|in_flight_bytes)\S*) (\S+)$", re.MULTILINE)
    end = monotonic() + 10
    while True:
        found = wanted.findall(server.client.get("/metrics").text)
        left = [f"{name} is {value}" for name, value in found if float(value)]
        if not left or monotonic() > end:
            return left if found else ["no metrics"]


def _growth(resident: list[float]) -> list[str]:
    half = resident[len(resident) // 2 :]
    slope = float(np.polyfit(range(len(half)), half, 1)[0])
    growth = slope * len(half)
    print(f"resident: {resident[0]:.1f} to {resident[-1]:.1f} MiB, second half {growth:+.1f} MiB")
    return [f"memory grew by {growth:.1f} MiB in the second half"] if growth > GROWTH else []


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--leak", action="store_true")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = run(parsed.requests, parsed.leak, Path(folder))
    for line in wrong[:20]:
        print("WRONG", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
