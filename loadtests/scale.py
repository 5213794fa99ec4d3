"""From the measured cost of a request to a million a second: `python -m loadtests.scale FILE …`.

FILE is what `convserve profile MODEL --target-rps R --p99 MS --out FILE` wrote on the machine that
is to be multiplied. All else is stated by options, whose defaults are assumptions and no
measurements; every row of the table says how it comes from the rows above it.
"""

import json
import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

from loadtests.samples import latest_version

GIGABIT, GIGABYTE = 1e9 / 8, 1e9


@dataclass(frozen=True)
class Premises:
    """What is assumed, with its unit; each is an option of the command line."""

    rps: float = 1e6
    """Requests per second."""
    cores: int = 2
    """Cores of a replica; one that was profiled."""
    node_cores: int = 64
    """Cores of a node."""
    node_reserved: float = 4
    """Cores of a node that replicas do not get."""
    zones: int = 3
    """Zones, one of which may be lost."""
    header_bytes: int = 450
    """Bytes of a request or an answer besides its body: HTTP (of an answer 362), TCP, IP."""
    series: int = 430
    """Time series of a replica; 428 were counted with three models."""
    scrape_seconds: float = 15
    """Seconds between two scrapes of a replica."""
    poll_seconds: float = 60
    """CONVSERVE_POLL_SECONDS where the store is an object store."""
    rollout_seconds: float = 600
    """Seconds in which all replicas fetch a new version."""
    core_hour: float = 0.04
    """Price of a core for an hour."""
    egress_gigabyte: float = 0.0
    """Price of a gigabyte that leaves."""


@dataclass(frozen=True)
class Row:
    """A quantity: its name, how it is computed, its unit, its value."""

    name: str
    how: str
    unit: str
    value: float


def rows(found: dict[str, Any], artifact_bytes: int, given: Premises) -> Iterator[Row]:
    """Yield what it takes to serve one model at `given.rps`, from its profile."""
    cost = found["capacity"]
    (one,) = (option for option in cost["options"] if option["cores"] == given.cores)
    yield Row("CPU of a request", "measured", "ms", cost["cpu_seconds"] * 1e3)
    yield Row("of it on the event loop", "measured", "ms", cost["loop_seconds"] * 1e3)
    yield Row("a replica saturates at", "measured, × cores", "1/s", one["saturation"])
    yield Row("a replica takes within its p99", "M/M/c queue", "1/s", one["takes"])
    replicas = ceil(given.rps / one["takes"] * given.zones / (given.zones - 1))
    yield Row("replicas", "rate / takes × zones / (zones − 1)", "", replicas)
    each = int((given.node_cores - given.node_reserved) // given.cores)
    nodes = ceil(replicas / each)
    cores = nodes * given.node_cores
    yield Row("nodes", f"{each} replicas on each", "", nodes)
    yield Row("cores paid for", "nodes × their cores", "", cores)
    yield Row(
        "of them busy", "rate × CPU / cores", "%", 1e2 * given.rps * cost["cpu_seconds"] / cores
    )
    alone = cost["loop_seconds"] + found["curve"][0][1]
    yield Row("under way at once, at least", "rate × time of one alone", "", given.rps * alone)
    out = cost["answer_bytes"] + given.header_bytes
    yield from network(
        given.rps * (cost["request_bytes"] + given.header_bytes), given.rps * out, nodes
    )
    yield from control(replicas, artifact_bytes, given)
    paid = cores * given.core_hour / (given.rps * 3600) * 1e6
    yield Row("a million predictions, cores", "cores × price / rate", "$", paid)
    egress = 1e6 * out / GIGABYTE * given.egress_gigabyte
    yield Row("a million predictions", "and what leaves", "$", paid + egress)


def network(incoming: float, outgoing: float, nodes: int) -> Iterator[Row]:
    """Yield the traffic of so many bytes per second in and out."""
    yield Row("network in", "rate × (body + headers)", "Gbit/s", incoming / GIGABIT)
    yield Row("network out", "rate × (answer + headers)", "Gbit/s", outgoing / GIGABIT)
    busier = max(incoming, outgoing) / nodes
    yield Row("network of a node", "the larger / nodes", "Gbit/s", busier / GIGABIT)


def control(replicas: int, artifact_bytes: int, given: Premises) -> Iterator[Row]:
    """Yield what replicas ask of the store and of Prometheus."""
    fetched = replicas * artifact_bytes
    yield Row("artifact", "its files", "MB", artifact_bytes / 1e6)
    yield Row("store, a rollout", "replicas × artifact", "GB", fetched / GIGABYTE)
    rate = fetched / given.rollout_seconds / GIGABIT
    yield Row("store, during it", "/ seconds of a rollout", "Gbit/s", rate)
    yield Row("store, looks", "replicas / seconds between", "1/s", replicas / given.poll_seconds)
    samples = replicas * given.series / given.scrape_seconds
    yield Row("Prometheus, samples", "replicas × series / seconds", "1/s", samples)


def table(columns: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Yield a Markdown table of models' rows."""
    yield f"| quantity | from | {' | '.join(f'`{model}`' for model in columns)} |"
    yield f"|---|---|{'---|' * len(columns)}"
    for same in zip(*columns.values(), strict=True):
        cells = " | ".join(f"{shown(row.value)} {row.unit}".strip() for row in same)
        yield f"| {same[0].name} | {same[0].how} | {cells} |"


def shown(value: float) -> str:
    """Return a number with three digits, or all of it where it is a count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def premises(given: Premises) -> Iterator[str]:
    """Yield a Markdown list of what is assumed."""
    for field in fields(given):
        yield f"- `--{field.name.replace('_', '-')} {getattr(given, field.name):g}`"


def computed(files: Sequence[Path], store: Path, given: Premises) -> Iterator[str]:
    """Yield premises and table for the profiles in `files`, of models in `store`."""
    profiles = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    columns = {
        found["model"]: list(rows(found, size(latest_version(store / found["model"])), given))
        for found in profiles
    }
    yield from premises(given)
    yield ""
    yield from table(columns)


def size(artifact: Path) -> int:
    """Return the bytes of all files of an artifact."""
    return sum(file.stat().st_size for file in artifact.rglob("*") if file.is_file())


def main() -> int:
    """Print the arithmetic."""
    parser = ArgumentParser(description=__doc__, formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--store", type=Path, default=Path("models/store"))
    for field in fields(Premises):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    asked = vars(parser.parse_args())
    files, store = asked.pop("files"), asked.pop("store")
    print("\n".join(computed(files, store, Premises(**asked))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
