"""The importer's side of the wall: a process of its own, a time limit, a memory limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from convserve_models import manifest
from convserve_models.importing.refusal import Refusal
from convserve_models.importing.request import NAME, Request


@dataclass(frozen=True)
class Limits:
    """What an import may use."""

    seconds: float = 120.0
    memory: int = 4 * 2**30
    """Bytes of address space."""


def import_network(
    request: Request, store: Path, version: str | None = None, limits: Limits | None = None
) -> Path:
    """Write `<store>/<name>/<version>/` and return it; raises Refusal, and then nothing is written.

    `version` defaults to one more than the latest.
    """
    if not NAME.fullmatch(request.name) or len(request.name) > 64:
        raise Refusal(
            "name",
            f"{request.name!r} cannot be a model's name",
            "give --name with small letters, digits and underscores, at most 64",
        )
    version = version or manifest.next_version(store / request.name)
    with tempfile.TemporaryDirectory() as folder:
        _work(request, folder, version, limits or Limits())
        return manifest.publish(Path(folder), store / request.name / version)


def _work(request: Request, folder: str, version: str, limits: Limits) -> None:
    told = {
        "request": asdict(request),
        "folder": folder,
        "version": version,
        "memory": limits.memory,
    }
    # One thread: libraries reserve address space for each, and the limit is one of that.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"{__package__}.worker"],
            input=json.dumps(told),
            env={**os.environ, **threads},
            capture_output=True,
            text=True,
            timeout=limits.seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refusal(
            "time",
            f"{request.network} is not done after {limits.seconds:g} s",
            "look for a loop that does not end in the graph, or raise --seconds",
        ) from None
    _judge(request, done, limits)


def _judge(request: Request, done: subprocess.CompletedProcess[str], limits: Limits) -> None:
    if done.returncode == 0:
        if answer := json.loads(done.stdout):
            raise Refusal(**answer)
        return
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise Refusal(
            "crash",
            f"{request.network} brought the process that ran it down ({name}); it may use "
            f"{limits.memory / 2**30:g} GiB",
            "raise --memory; if it still does, run it with onnxruntime where it was exported",
        )
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise Refusal(
        "unexpected",
        f"{request.network} cannot be imported: {last}",
        "this is a mistake of the importer: report it, with the file if you may",
    )
