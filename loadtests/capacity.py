"""Is the capacity estimate true? `python -m loadtests.capacity MODEL …` compares, by model:

- the estimate: where `convserve profile MODEL --target-rps …` says that one core saturates;
- the measurement: what a closed loop (Locust) gets out of a server on one core, with the load
  generator on another.

Where others use that core too, the server gets less of it than all: the measurement is then
scaled to a whole core by the CPU seconds that the server says it had. The share is shown; where
it is 1 the measurement is the saturation itself. Needs two cores and `taskset`. Exit status 1 if
any is more than 15 % off.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST = 0.15
URL = "http://127.0.0.1:8117"
USERS = "16,32"
STRETCH = 4.0  # seconds
FULL = 0.95  # of the most that the server had of its core


def main() -> int:
    """Compare, print a table, and write it to the report's directory."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--store", type=Path, default=Path("models/store"))
    parser.add_argument("--report", type=Path, default=Path("loadtests/report"))
    asked = parser.parse_args()
    asked.report.mkdir(parents=True, exist_ok=True)
    rows = [compare(asked.store.resolve(), model, asked.report) for model in asked.models]
    lines = [
        "| model | estimated, 1/s | measured, 1/s | on cores | estimate / measured per core |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        rates = f"{row['estimated']:.0f} | {row['measured']:.0f} | {row['cores']:.2f}"
        cells = f"{rates} | {row['ratio']:.3f}"
        lines.append(f"| `{row['model']}` | {cells} |")
    print("\n".join(lines))
    (asked.report / "capacity.md").write_text("\n".join(lines) + "\n")
    (asked.report / "capacity.json").write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(abs(row["ratio"] - 1) > MOST for row in rows))


def compare(store: Path, model: str, report: Path) -> dict[str, Any]:
    """Return a model's estimate beside its measurement, in requests per second of one core.

    Its profile stays in `report`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        alone = Path(scratch) / "store"
        alone.mkdir()
        (alone / model).symlink_to(store / model)
        (alone / "store.json").write_text(json.dumps({"default": [model]}))
        guess = estimated(alone, model, report / f"{model}.json")
        with serving(alone):
            found, cores = measured(alone, model, Path(scratch))
    ratio = guess * cores / found
    return {
        "model": model,
        "estimated": guess,
        "measured": found,
        "cores": cores,
        "ratio": ratio,
    }


def estimated(store: Path, model: str, out: Path) -> float:
    """Return what `convserve profile` says; `out` is its file."""
    goal = ["--target-rps", "1e6", "--p99", "100", "--out", str(out)]
    command = ["convserve", "profile", model, "--store", str(store), "--cores", "1", *goal]
    subprocess.run(command, check=True, stdout=sys.stderr)
    saturation: float = json.loads(out.read_text())["capacity"]["options"][0]["saturation"]
    return saturation


@contextmanager
def serving(store: Path) -> Iterator[None]:
    """Serve the store on the first core until the block ends."""
    environment = {**os.environ, "CONVSERVE_PORT": URL.rpartition(":")[2]}
    command = ["taskset", "-c", "0", "convserve", "serve", "--store", str(store)]
    with subprocess.Popen(command, env=environment, stdout=sys.stderr) as server:
        try:
            await_ready()
            yield
        finally:
            server.terminate()


def await_ready(seconds: float = 60) -> None:
    """Return once the server is ready."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{URL}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"{URL} is not ready after {seconds} s")


def measured(store: Path, model: str, scratch: Path) -> tuple[float, float]:
    """Return the answers per second of the closed loop, and the cores that the server had.

    Both are by what the server counts, over the stretches in which it had most of its core.
    """
    newest = max((store / model).iterdir(), key=lambda version: int(version.name))
    golden = json.loads((newest / "manifest.json").read_text())["goldens"][0]
    size = (newest / golden["input"]).stat().st_size  # what the estimate asks with
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"]
    paths = ["--host", URL, "--store", str(store), "--report", str(scratch)]
    steps = ["--loop", "closed", "--loads", USERS, "--max-bytes", str(size)]
    quiet = ["--only-summary", "--loglevel", "WARNING"]
    run = ["taskset", "-c", "1", *command, *paths, *steps, *quiet]
    marks = []
    with subprocess.Popen(run, stdout=sys.stderr) as users:
        while users.poll() is None:
            marks.append((time.monotonic(), *told()))
            time.sleep(STRETCH / 4)
    if users.returncode:
        raise RuntimeError(f"{model}: locust ended with {users.returncode}")
    stretches = [
        tuple(new - old for new, old in zip(after, before, strict=True))
        for before, after in zip(marks, marks[4:], strict=False)
    ]
    most = max(used / seconds for seconds, _, used in stretches)
    full = [stretch for stretch in stretches if stretch[2] / stretch[0] >= FULL * most]
    seconds, answers, used = (sum(column) for column in zip(*full, strict=True))
    return answers / seconds, used / seconds


def told() -> tuple[float, float]:
    """Return what the server has counted: answers, and its CPU seconds."""
    with urllib.request.urlopen(f"{URL}/metrics", timeout=10) as metrics:
        text = metrics.read().decode()
    answers = re.findall(r'^convserve_requests_total\{.*status="200".*\} (\S+)', text, re.MULTILINE)
    (cpu,) = re.findall(r"^process_cpu_seconds_total (\S+)", text, re.MULTILINE)
    return sum(map(float, answers)), float(cpu)


if __name__ == "__main__":
    sys.exit(main())
