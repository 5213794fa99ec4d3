"""The load generator, `generator.c`: open and closed loops for about a tenth of a core."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.samples import Sample
from loadtests.server import Server

Figures = dict[str, Any]


@dataclass(frozen=True)
class Generator:
    """The compiled program, and how it asks: seconds a step, deadline in milliseconds."""

    program: Path
    seconds: float
    deadline: float

    def offer(self, server: Server, sample: Sample, rate: float, seed: int) -> Figures:
        """Offer `rate` requests per second (Poisson arrivals), each with the deadline.

        Returns what happened to them, and the CPU seconds that the server needed.
        """
        header = f"X-Request-Timeout-Ms: {self.deadline:.0f}"
        return self._run(server, sample, [f"{rate:.0f}", *self._times(), str(seed), header])

    def loop(self, server: Server, sample: Sample, users: int) -> Figures:
        """Let so many users ask again as soon as they are answered; returns as `offer` does."""
        return self._run(server, sample, [str(-users), *self._times()])

    def _times(self) -> list[str]:
        return [str(self.seconds), f"{self.deadline:g}"]

    def _run(self, server: Server, sample: Sample, numbers: list[str]) -> Figures:
        with tempfile.NamedTemporaryFile() as body:
            body.write(sample.body)
            body.flush()
            path = server.path.format(model=sample.model)
            target = [str(server.port), path, sample.media_type, body.name]
            before = server.cpu_seconds()
            said = subprocess.run(
                [str(self.program), *target, *numbers], check=True, capture_output=True
            )
            figures: Figures = json.loads(said.stdout)
            return figures | {"server_cpu": server.cpu_seconds() - before}


@contextmanager
def generator(seconds: float, deadline: float) -> Iterator[Generator]:
    """Compile the generator; it is there until the block ends."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "generator"
        source = Path(__file__).with_name("generator.c")
        subprocess.run(["cc", "-O2", "-o", program, source, "-lm"], check=True)
        yield Generator(program, seconds, deadline)
