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
import re
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from loadtests.samples import latest_version
from loadtests.server import Server, convserve
from loadtests.table import markdown

MOST = 0.15
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
    head = ["model", "estimated, 1/s", "measured, 1/s", "on cores", "estimate / measured per core"]
    table = markdown(head, map(_cells, rows))
    print(table)
    (asked.report / "capacity.md").write_text(table + "\n")
    (asked.report / "capacity.json").write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(abs(row["ratio"] - 1) > MOST for row in rows))


def _cells(row: dict[str, Any]) -> list[str]:
    rates = [f"{row['estimated']:.0f}", f"{row['measured']:.0f}", f"{row['cores']:.2f}"]
    return [f"`{row['model']}`", *rates, f"{row['ratio']:.3f}"]


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
        with convserve(alone, enter=("taskset", "-c", "0")) as server:
            found, cores = measured(server, alone, model, Path(scratch))
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
    graph = ["--precision", "float"]  # as the server that it is held against
    command = ["convserve", "profile", model, "--store", str(store), "--cores", "1", *graph, *goal]
    subprocess.run(command, check=True, stdout=sys.stderr)
    saturation: float = json.loads(out.read_text())["capacity"]["options"][0]["saturation"]
    return saturation


def measured(server: Server, store: Path, model: str, scratch: Path) -> tuple[float, float]:
    """Return the answers per second of the closed loop, and the cores that the server had.

    Both are by what the server counts, over the stretches in which it had most of its core.
    """
    newest = latest_version(store / model)
    golden = json.loads((newest / "manifest.json").read_text())["goldens"][0]
    size = (newest / golden["input"]).stat().st_size  # what the estimate asks with
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"]
    paths = [
        "--host",
        f"http://127.0.0.1:{server.port}",
        "--store",
        str(store),
        "--report",
        str(scratch),
    ]
    steps = ["--loop", "closed", "--loads", USERS, "--max-bytes", str(size)]
    quiet = ["--only-summary", "--loglevel", "WARNING"]
    run = ["taskset", "-c", "1", *command, *paths, *steps, *quiet]
    marks = []
    with subprocess.Popen(run, stdout=sys.stderr) as users:
        while users.poll() is None:
            marks.append((time.monotonic(), *told(server)))
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


def told(server: Server) -> tuple[float, float]:
    """Return what the server has counted: answers, and its CPU seconds."""
    text = server.get("/metrics").decode()
    answers = re.findall(r'^convserve_requests_total\{.*status="200".*\} (\S+)', text, re.MULTILINE)
    (cpu,) = re.findall(r"^process_cpu_seconds_total (\S+)", text, re.MULTILINE)
    return sum(map(float, answers)), float(cpu)


if __name__ == "__main__":
    sys.exit(main())
