"""What a CPU quota does to us and to plain ONNX Runtime: `python -m loadtests.quota MODEL`.

The same image classifier behind convserve, behind a plain FastAPI endpoint that runs ONNX Runtime
with its defaults, and behind the same with the threads that it would start on a host of 16 cores.
Each is put under a quota of 1 and of 2 cores and offered half of what convserve can do with one.
A service that counts the host's cores instead of its own is throttled; the table tells for how
long, and what that does to the latency. Needs root and control groups, version 1 or 2.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.generator import Figures, Generator, generator
from loadtests.options import options
from loadtests.samples import Sample, latest_version, read_model
from loadtests.server import Server, convserve, peer
from loadtests.table import markdown

PERIOD = 100_000  # µs, the kernel's own
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
SHARE = 0.5  # of what one core can do is offered
HOST = 16
ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
SERVERS = ("convserve", "plain", f"plain, {HOST} threads")


def main() -> int:
    """Measure, print a table, write it."""
    parser = options(__doc__, seconds=8.0)
    parser.add_argument("model", metavar="MODEL")
    asked = parser.parse_args()
    sample = read_model(asked.store / asked.model, 65536)[0]
    with generator(asked.seconds, 10_000) as load:
        with limited(1) as group, serving(SERVERS[0], asked.store, sample, group) as server:
            rate = SHARE * load.loop(server, sample, users=8)["goodput_rps"]
        rows = [
            measure(name, asked.store, sample, load, rate, cores)
            for cores in (1, 2)
            for name in SERVERS
        ]
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "quota.json").write_text(json.dumps(rows, indent=1) + "\n")
    (asked.out / "quota.md").write_text(page(sample.model, rate, rows))
    print(page(sample.model, rate, rows))
    return 0


def measure(
    name: str, store: Path, sample: Sample, load: Generator, rate: float, cores: int
) -> Figures:
    """Return the load's figures, and how long the kernel held the server up meanwhile."""
    with limited(cores) as group, serving(name, store, sample, group) as server:
        before = throttled(group)
        figures = load.offer(server, sample, rate, seed=1)
        held_up = throttled(group) - before
        threads = len(list(Path(f"/proc/{server.pid}/task").iterdir()))
    facts = {"server": name, "cores": cores, "throttled": held_up, "threads": threads}
    return facts | figures


@contextmanager
def serving(name: str, store: Path, sample: Sample, group: Path) -> Iterator[Server]:
    """Serve the sample's model inside the control group."""
    enter = ["sh", "-c", ENTER, str(group)]
    if name == SERVERS[0]:
        with convserve(store, {"CONVSERVE_MODELS": sample.model}, enter) as server:
            yield server
    else:
        threads = HOST if name == SERVERS[2] else 0
        with peer("naive", latest_version(store / sample.model), threads, enter) as server:
            yield server


@contextmanager
def limited(cores: int) -> Iterator[Path]:
    """Make a control group whose processes get so many cores; it is gone after the block."""
    v1 = (V1 / "cpu.cfs_quota_us").exists()
    group = (V1 if v1 else V2) / f"convserve-quota-{os.getpid()}"
    group.mkdir()
    quota = cores * PERIOD
    file, text = ("cpu.cfs_quota_us", f"{quota}") if v1 else ("cpu.max", f"{quota} {PERIOD}")
    try:
        (group / file).write_text(text)
        yield group
    finally:
        group.rmdir()


def throttled(group: Path) -> float:
    """Return for how many seconds the group's processes were held up so far."""
    stat = dict(re.findall(r"^(\w+) (\d+)$", (group / "cpu.stat").read_text(), re.MULTILINE))
    return int(stat.get("throttled_time", 0)) / 1e9 + int(stat.get("throttled_usec", 0)) / 1e6


def page(model: str, rate: float, rows: list[Figures]) -> str:
    """Return the table."""
    head = ["quota", "server", "threads", "p50 ms", "p95 ms", "p99 ms", "throttled s", "CPU s"]
    table = markdown(head, map(_cells, rows))
    return f"`{model}`, {rate:.0f} requests/s (Poisson)\n\n{table}\n"


def _cells(row: Figures) -> list[str]:
    times = [f"{row[f'ok_p{p}_ms']:.1f}" for p in (50, 95, 99)]
    used = [f"{row['throttled']:.2f}", f"{row['server_cpu']:.1f}"]
    return [str(row["cores"]), row["server"], str(row["threads"]), *times, *used]


if __name__ == "__main__":
    sys.exit(main())
