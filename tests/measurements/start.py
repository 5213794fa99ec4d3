"""What a start takes until the service is ready, part by part, and what each model takes at rest.

    python -m tests.measurements.start [--rounds N] [--python .venv/serve/bin/python] [--record]

In turns: the interpreter with NumPy and ONNX Runtime, below which no start can be; a start that can
write nothing and has no cache; a start that finds what one before it left in the cache. Parts are
seconds of the thread that does them, without those that they contain: models are opened side by
side, so parts may add up to more than the whole. Then, one after the other, the models that are
loaded on first use: resident memory before it and at rest after it.
"""

import functools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

RECORD = Path(__file__).with_name("records") / "start.md"
STORE = Path("models/store")
FLOOR = "import numpy, onnxruntime"
PARTS = {
    "artifact.load_artifact": "manifests and digests",
    "engine.session.Session.__init__": "sessions",
    "repository.Repository._first_look": "looking through the store",
    "verification.Inputs.of": "goldens prepared",
    "verification.Verifier.verify": "goldens run",
    "graphs.Graphs._gain": "float and int8 timed",
    "verification.Verifier.warm_up": "warm-up",
}
SETTLED, POLL = 6, 0.5  # polls of equal memory that are rest, and the seconds between two
MIB = 2**20
Found = dict[str, Any]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compiled = {"PYTHONPYCACHEPREFIX": f"{folder}/compiled", "PYTHONDONTWRITEBYTECODE": ""}
        nowhere = compiled | {"CONVSERVE_CACHE": os.devnull}
        kept = compiled | {"CONVSERVE_CACHE": f"{folder}/cache"}
        for environment in (nowhere, kept):
            with start(asked.python, environment) as found:
                _rest(found["pid"])  # everything is compiled and measured
        runs: dict[str, list[Found]] = defaultdict(list)
        for _ in range(asked.rounds):
            runs["floor"].append(floor(asked.python, compiled))
            for name, environment in (("cold", nowhere), ("warm", kept)):
                with start(asked.python, environment) as found:
                    runs[name].append(found)
        page = "\n".join([*times(asked.rounds, runs), "", *memory(asked.python, kept)])
    print(page)
    if asked.record:
        RECORD.write_text(page + "\n")


def floor(python: str, environment: Mapping[str, str]) -> Found:
    before, started = os.times(), time.monotonic()
    subprocess.run([python, "-c", FLOOR], check=True, env={**os.environ, **environment})
    after, seconds = os.times(), time.monotonic() - started
    used = after.children_user + after.children_system
    return {"ready": seconds, "cpu": used - before.children_user - before.children_system}


@contextmanager
def start(python: str, environment: Mapping[str, str]) -> Iterator[Found]:
    """Serve until the block ends; yields what the start took, in seconds, and the process."""
    with tempfile.NamedTemporaryFile("r") as told:
        started = time.monotonic()
        command = [python, "-m", "tests.measurements.start", "serve", told.name, str(started)]
        env = {**os.environ, "CONVSERVE_LOG_LEVEL": "error", "CONVSERVE_PORT": "0", **environment}
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                listens, ready = process.stdout.readline(), process.stdout.readline()
                assert "is ready" in ready, ready
                url = listens.split()[-1]
                yield {**json.loads(told.read()), "url": url, "pid": process.pid}
            finally:
                process.terminate()


def serve(told: Path, started: float) -> int:
    """Be the service, and write what its start took when it says that it is ready."""
    found: Found = {"interpreter": time.monotonic() - started, "parts": defaultdict(float)}
    from convserve import cli, repository, server  # noqa: F401

    found["imports"] = time.monotonic() - started - found["interpreter"]
    _time_parts(found["parts"])
    check = repository.Repository.check_ready

    def checked(self: repository.Repository) -> None:
        check(self)
        if "ready" not in found:
            times = os.times()
            found.update(ready=time.monotonic() - started, cpu=times.user + times.system)
            found["memory"] = _resident(os.getpid())
            told.write_text(json.dumps(found))

    repository.Repository.check_ready = checked  # type: ignore[method-assign]
    return cli.main(["serve"])


def _time_parts(parts: dict[str, float]) -> None:
    local = threading.local()

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def run(*args: Any, **kwargs: Any) -> Any:
            inside = local.__dict__.setdefault("inside", [0.0])
            inside.append(0.0)
            started = time.monotonic()
            try:
                return work(*args, **kwargs)
            finally:
                seconds = time.monotonic() - started
                parts[name] += seconds - inside.pop()
                inside[-1] += seconds

        return run

    for place, name in PARTS.items():
        *modules, last = place.split(".")
        owner = functools.reduce(getattr, modules, sys.modules["convserve"])
        original: Callable[..., Any] = getattr(owner, last)
        for holder in [owner, *sys.modules.values()]:  # a function is imported by name
            if getattr(holder, last, None) is original:
                setattr(holder, last, timed(name, original))


def times(rounds: int, runs: Mapping[str, Sequence[Found]]) -> Iterator[str]:
    least = [median(run[what] for run in runs["floor"]) for what in ("ready", "cpu")]
    yield "# What a start takes"
    yield ""
    yield (
        f"`python -m tests.measurements.start --record`, {datetime.now(UTC):%Y-%m-%d}, "
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, the models that the store "
        f"marks as default, medians of {rounds} rounds in turns (least to most). "
        f"Others used the machine, too: the load was {os.getloadavg()[1]:.1f} at the end."
    )
    yield ""
    yield "| until ready | seconds | of the floor | CPU seconds | of the floor | MiB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    names = {"floor": f"`{FLOOR}`", "cold": "empty cache, nothing can be written", "warm": "cache"}
    for name, words in names.items():
        wall, cpu = ([run[what] for run in runs[name]] for what in ("ready", "cpu"))
        ratios = [median(wall) / least[0], median(cpu) / least[1]]
        sizes = [run["memory"] / MIB for run in runs[name] if "memory" in run]
        yield (
            f"| {words} | {_spread(wall)} | {ratios[0]:.1f} | {_spread(cpu)} | {ratios[1]:.1f} | "
            f"{f'{median(sizes):.0f}' if sizes else ''} |"
        )
    yield ""
    yield "| seconds of a part | empty cache | cache |"
    yield "| --- | --- | --- |"
    for part in ("interpreter", "imports", *PARTS.values()):
        cells = (
            f"{median(_part(run, part) for run in runs[name]):.3f}" for name in ("cold", "warm")
        )
        yield f"| {part} | {' | '.join(cells)} |"


def _part(run: Found, name: str) -> float:
    seconds: float = run[name] if name in run else run["parts"].get(name, 0.0)
    return seconds


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def memory(python: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the table of what each model takes at rest."""
    with start(python, environment) as found:
        before = _rest(found["pid"])
        yield f"The default models at rest, measured and trimmed: {before / MIB:.0f} MiB."
        yield ""
        yield "| loaded on first use | file, MiB | resident at rest, MiB | of the file |"
        yield "| --- | --- | --- | --- |"
        default = json.loads((STORE / "store.json").read_text())["default"]
        for card in sorted(STORE.glob("*/*/manifest.json")):
            name, manifest = card.parents[1].name, json.loads(card.read_text())
            if name not in default:
                _ask(found["url"], name, card.parent, manifest["goldens"][0])
                after, file = _rest(found["pid"]), (card.parent / "model.onnx").stat().st_size
                taken, before = after - before, after
                yield f"| `{name}` | {file / MIB:.1f} | {taken / MIB:.1f} | {taken / file:.1f} |"


def _ask(url: str, name: str, path: Path, golden: Mapping[str, str]) -> None:
    data, headers = (path / golden["input"]).read_bytes(), {"Content-Type": golden["media_type"]}
    request = urllib.request.Request(f"{url}/v1/models/{name}/predict", data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def _rest(pid: int) -> int:
    """Return the bytes of resident memory once they stay the same."""
    seen = [_resident(pid)]
    while len(seen) < SETTLED or max(seen[-SETTLED:]) - min(seen[-SETTLED:]) > MIB / 4:
        time.sleep(POLL)
        seen.append(_resident(pid))
    return seen[-1]


def _resident(pid: int) -> int:
    (kib,) = re.findall(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        sys.exit(serve(Path(sys.argv[2]), float(sys.argv[3])))
    main()
