"""A `convserve serve` of its own for a measurement, and the CPU that it used."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TICKS = os.sysconf("SC_CLK_TCK")
ENVIRONMENTS = Path(".venv").absolute()


@dataclass(frozen=True)
class Peer:
    """Another server: its module, what runs it, where it takes pictures, and tells that it is up.

    A picture comes as it is (`raw`), in a `form`, or in a tensor of the `v2` protocol.
    """

    module: str
    python: str
    path: str
    ready: str
    body: Literal["raw", "form", "v2"] = "raw"


def _python(environment: str) -> str:
    return str(ENVIRONMENTS / environment / "bin/python")


PEERS = {
    "naive": Peer("naive", sys.executable, "/predict", "/ready"),
    "mosec": Peer("mosec_server", _python("mosec"), "/inference", "/"),
    "litserve": Peer("litserve_server", _python("litserve"), "/predict", "/health", "form"),
    "bentoml": Peer("bentoml_server", _python("bentoml"), "/predict", "/readyz", "form"),
    "mlserver": Peer(
        "mlserver_server",
        _python("mlserver"),
        "/v2/models/classifier/infer",
        "/v2/health/ready",
        "v2",
    ),
    "ray": Peer("ray_server", _python("ray"), "/predict", "/predict"),
}


@dataclass(frozen=True)
class Server:
    """A server process, with those that it started, on a loopback port."""

    pid: int
    port: int
    path: str = "/v1/models/{model}/predict"
    ready: str = "/readyz"

    def cpu_seconds(self) -> float:
        """Return user and system time that all its processes used so far."""
        return sum(_cpu_seconds(pid) for pid in _family(self.pid))

    def get(self, path: str) -> bytes:
        """Return the body at `path`; raises `OSError` if there is none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def convserve(
    store: Path,
    environment: Mapping[str, str] | None = None,
    enter: Sequence[str] = (),
    module: Sequence[str] = ("convserve.cli", "serve"),
) -> Iterator[Server]:
    """Serve `store` until the block ends; it is ready and has measured its models by then.

    `enter` is a command that runs the rest of its line, `module` what serves in place of convserve.
    Floats answer, as in what it is compared with, unless the `environment` says otherwise.
    """
    command = [*enter, sys.executable, "-m", *module]
    usual = {"CONVSERVE_STORE": str(store), "CONVSERVE_PRECISION": "float"}
    with _process(command, {**usual, **(environment or {})}) as server:
        time.sleep(5)  # its own measurements after ready, which take turns with requests
        yield server


@contextmanager
def peer(
    name: str, artifact: Path, threads: int, enter: Sequence[str] = (), workers: int = 1
) -> Iterator[Server]:
    """Serve an image classifier as another server does, by its entry in `PEERS`."""
    known = PEERS[name]
    environment = {
        "WORKERS": str(workers),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "CLASSIFIER": _facts(artifact, threads),
    }
    command = [*enter, known.python, "-m", f"loadtests.peers.{known.module}"]
    with _process(command, environment, known.path, known.ready) as server:
        yield server


@contextmanager
def least(artifact: Path) -> Iterator[Server]:
    """Run the least service that classifies pictures in batches: what uvicorn leaves to any."""
    environment = {"CLASSIFIER": _facts(artifact, threads=1)}
    command = [sys.executable, "-m", "loadtests.least"]
    with _process(command, environment, "/", "/") as server:
        yield server


@contextmanager
def refuser() -> Iterator[Server]:
    """Run an application that does nothing but refuse: what any server must pay for it."""
    with _process([sys.executable, "-m", "loadtests.refuser"], {}) as server:
        yield server


def _facts(artifact: Path, threads: int) -> str:
    """Return what `peers.classifier` has to know, as JSON."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    return json.dumps(
        {
            "graph": str((artifact / manifest["graphs"]["predict"]["file"]).absolute()),
            "side": manifest["inputs"][0]["shape"][1],
            "labels": manifest["postprocess"]["labels"],
            "threads": threads,
        }
    )


@contextmanager
def _process(
    command: Sequence[str],
    environment: Mapping[str, str],
    path: str = Server.path,
    ready: str = Server.ready,
) -> Iterator[Server]:
    port = _free_port()
    env = {**os.environ, "CONVSERVE_PORT": str(port), "CONVSERVE_LOG_LEVEL": "warning"}
    with subprocess.Popen(command, env={**env, **environment}) as process:
        server = Server(process.pid, port, path, ready)
        try:
            _await_ready(process, server)
            yield server
        finally:
            family = _family(process.pid)
            process.terminate()
            process.wait()
            for pid in family[1:]:  # what did not end with its parent
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _await_ready(process: subprocess.Popen[bytes], server: Server, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            server.get(server.ready)
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"{process.args!r} was not ready after {seconds} s")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _family(pid: int) -> list[int]:
    """Return the process and all that descend from it."""
    family = [pid]
    for member in family:  # grows while it is walked through
        children = Path(f"/proc/{member}/task").glob("*/children")
        family += [int(child) for file in children for child in file.read_text().split()]
    return family


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
