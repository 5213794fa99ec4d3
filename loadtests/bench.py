"""The serving tax: `python -m loadtests.bench MODEL … [--peers [PEER …]]` (`make bench` builds the
peers).

A model is an artifact of the store, or a network of `nets`. For each, in rounds that take turns in
one run: bare ONNX Runtime with its best batch size, side by side on one thread per core (the
limit), then closed loops of 1, 16, 64 and 256 users against convserve by several routes, against a
null net behind convserve, and, for pictures, against the peers and, if they are PNG files, against
the least service that uvicorn makes possible (`least`). All run the graph of floats; where
the artifact has one of 8-bit integers, convserve with that is one server more. All decode the same
file, the limit none. CPU is counted over all of a server's processes. Each server is started for
its turn and runs alone: what others do while nobody asks them takes half of what one could answer.
"""

import base64
import json
import math
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: there is no screen

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from loadtests import nets
from loadtests.bare import Bare
from loadtests.generator import Figures, Generator, generator
from loadtests.nulls import null
from loadtests.options import conditions, options
from loadtests.peers.classifier import decode
from loadtests.samples import Sample, latest_version, read_model
from loadtests.server import PEERS, Server, convserve, least, peer
from loadtests.table import markdown

USERS = [1, 16, 64, 256]
TURNS = 4  # each user has as many in a step, at least, if the server is as quick as the limit
WARMING, WARMERS = 0.3, 16  # seconds, users
DECODINGS = 20
SIZES = (1, 8, 32)
OURS, NULL, INT8 = "convserve", "null net", "convserve, int8"
FORM_ROUTE, TENSOR_ROUTE = "convserve, form", "convserve, v2"
NULL_FORM = "null net, form"
NAIVE, LEAST = "naive", "the least"
PAIRED = ("rates", "p99s")
COLOURS = 10  # that lines have, then they begin again
HEAD = [
    "server", "users", "answers/s", "of the limit", "CPU µs / answer", "over the limit's",
    "p50 ms", "p99 ms", "failed",
]  # fmt: skip
FORM = (
    b'--form\r\nContent-Disposition: form-data; name="file"; filename="input"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n%b\r\n--form--\r\n"
)
FORM_TYPE = "multipart/form-data; boundary=form"


@dataclass(frozen=True)
class Contender:
    """A server to be started, and by the table's names what it is asked, and where."""

    start: Callable[[], AbstractContextManager[Server]]
    asked: Mapping[str, tuple[str, Sample]]


def main() -> int:
    """Measure and write the record."""
    parser = options(__doc__, seconds=2.0, rounds=5)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[NAIVE], help="which; all")
    parser.add_argument("--users", type=int, nargs="+", default=USERS, help="at once")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, generator(asked.seconds, 10_000) as load:
        artifacts = [found(model, asked.store, Path(scratch)) for model in asked.models]
        measured = [
            measure(artifact, load, asked.rounds, asked.users, asked.peers or PEERS)
            for artifact in artifacts
        ]
    record: Figures = {
        **conditions(asked),
        "models": measured,
    }
    (asked.out / "bench.json").write_text(json.dumps(record, indent=1) + "\n")
    (asked.out / "README.md").write_text(page(record))
    plot(record, asked.out / "bench.png")
    print(page(record))
    return 0


def found(model: str, store: Path, scratch: Path) -> Path:
    """Return the directory of an artifact of `store`, or of a network that is made now."""
    return nets.write(model, scratch).parent if model in nets.NETS else store / model


def measure(
    artifact: Path, load: Generator, rounds: int, loads: list[int], peers: Iterable[str]
) -> Figures:
    """Return medians over the rounds: the limit's, and every server's by users."""
    newest = latest_version(artifact)
    sample = read_model(artifact, 65536)[0]
    facts = json.loads((newest / "manifest.json").read_text())
    limits: list[Figures] = []
    steps: dict[tuple[str, int], list[Figures]] = defaultdict(list)
    bare = Bare(newest / facts["graphs"]["predict"]["file"], prepared(sample, facts))
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        shutil.copytree(newest, store / artifact.name / newest.name)
        field = [*ours(store, newest, sample, facts), *theirs(peers, newest, sample, facts)]
        for _ in range(rounds):
            limits.append(bare.limit(SIZES, load.seconds) | {"decode": decoding(sample, facts)})
            seconds = {n: max(load.seconds, TURNS * n / limits[0]["rate"]) for n in loads}
            for contender in field:
                for name, users, step in turn(contender, load, seconds):
                    steps[name, users].append(step)
    limit = {name: median(one[name] for one in limits) for name in limits[0]}
    return {
        "model": sample.model,
        "limit": limit,
        "steps": [
            {"server": name, "users": users, **summary(taken, limit)}
            for (name, users), taken in steps.items()
        ],
    }


def turn(
    contender: Contender, load: Generator, seconds: Mapping[int, float]
) -> Iterator[tuple[str, int, Figures]]:
    """Start a server and yield what it did, by question and by users for so many seconds each."""
    with contender.start() as started:
        for path, sample in contender.asked.values():
            replace(load, seconds=WARMING).loop(replace(started, path=path), sample, WARMERS)
        for users, enough in seconds.items():
            for name, (path, sample) in contender.asked.items():
                server = replace(started, path=path)
                yield name, users, replace(load, seconds=enough).loop(server, sample, users)


def ours(store: Path, newest: Path, sample: Sample, facts: Figures) -> Iterator[Contender]:
    """Yield convserve by its routes, beside a null net, and with the graph of integers."""
    empty = replace(sample, model=null(newest, store))
    (store / "store.json").write_text(json.dumps({"default": [sample.model, empty.model]}))
    asked = forms(sample, facts)
    routes = {
        OURS: (Server.path, asked["raw"]),
        FORM_ROUTE: (Server.path, asked["form"]),
        TENSOR_ROUTE: ("/v2/models/{model}/infer", asked["v2"]),
        NULL: (Server.path, empty),
        NULL_FORM: (Server.path, as_form(empty)),
    }
    yield Contender(partial(convserve, store), routes)
    if "int8" in facts["graphs"]:
        integers = {"CONVSERVE_PRECISION": "int8"}
        yield Contender(partial(convserve, store, integers), {INT8: (Server.path, sample)})


def theirs(
    peers: Iterable[str], newest: Path, sample: Sample, facts: Figures
) -> Iterator[Contender]:
    """Yield the peers, which take pictures only, and before them the least service."""
    if facts["preprocess"]["modality"] == "image":
        if sample.media_type == "image/png":
            yield Contender(partial(least, newest), {LEAST: ("/", sample)})
        for name in peers:
            start = partial(peer, name, newest, threads=1, workers=2)
            question = forms(sample, facts)[PEERS[name].body]
            yield Contender(start, {name: (PEERS[name].path, question)})


def prepared(sample: Sample, facts: Figures) -> dict[str, NDArray[Any]]:
    """Return the sample as the graph's input, without a batch axis."""
    (entrance,) = facts["inputs"]
    if facts["preprocess"]["modality"] == "image":
        return {entrance["name"]: decode(sample.body, entrance["shape"][1])}
    # Any ids cost the same.
    return {entrance["name"]: np.ones(facts["preprocess"]["steps"][-1]["length"], np.int64)}


def decoding(sample: Sample, facts: Figures) -> float:
    """Return the CPU (µs) that decoding the sample takes with Pillow, 0 if it is no picture."""
    if facts["preprocess"]["modality"] != "image":
        return 0.0
    taken = []
    for _ in range(DECODINGS):
        before = thread_time()
        decode(sample.body, facts["inputs"][0]["shape"][1])
        taken.append(1e6 * (thread_time() - before))
    return median(taken)


def forms(sample: Sample, facts: Figures) -> dict[str, Sample]:
    """Return the sample as it is, in a form, and in a tensor of the v2 protocol."""
    (entrance,) = facts["inputs"]
    text = facts["preprocess"]["modality"] == "text"
    data = sample.body.decode() if text else base64.b64encode(sample.body).decode()
    tensor = {"name": entrance["name"], "shape": [1, 1], "datatype": "BYTES", "data": [data]}
    body = json.dumps({"inputs": [tensor]}).encode()
    v2 = replace(sample, media_type="application/json", body=body)
    return {"raw": sample, "form": as_form(sample), "v2": v2}


def as_form(sample: Sample) -> Sample:
    """Return the sample in a form, as browsers send files."""
    return replace(sample, media_type=FORM_TYPE, body=FORM % sample.body)


def summary(steps: list[Figures], limit: Figures) -> Figures:
    """Return medians: CPU (µs) per answer and answers/s, also over the limit's, and latencies.

    And each round's answers/s and p99, for ratios of what took turns.
    """
    cpu = median(1e6 * step["server_cpu"] / max(1, step["ok"]) for step in steps)
    rate = median(step["goodput_rps"] for step in steps)
    return {
        "cpu": cpu,
        "tax": cpu / limit["cpu"],
        "rate": rate,
        "share": rate / limit["rate"],
        "p50": median(step["ok_p50_ms"] for step in steps),
        "p99": median(step["ok_p99_ms"] for step in steps),
        "failed": sum(step["answered"] - step["ok"] for step in steps),
        "rates": [step["goodput_rps"] for step in steps],
        "p99s": [step["ok_p99_ms"] for step in steps],
    }


def page(record: Figures) -> str:
    """Return the Markdown of a record."""
    picture = "![CPU per answer and answers per second](bench.png)"
    return "\n".join(["# The serving tax", "", picture, "", *tables(record)]) + "\n"


def tables(record: Figures) -> Iterator[str]:
    """Yield how it was measured, and for each model the limit, all servers, and us beside peers."""
    yield (
        f"`python -m loadtests.bench`, {record['date']}, {record['machine']}; medians of "
        f"{record['rounds']} rounds of {record['seconds']:g} s that took turns, each server alone. "
        "The limit is bare ONNX Runtime on floats, one thread per core, its best batch size. The "
        "generator (C) has the same cores."
    )
    for measured in record["models"]:
        limit = measured["limit"]
        yield f"\n### {measured['model']}\n"
        apart = limit.get("decode")
        decoded = f" Decoding, {apart:.0f} µs with Pillow, is not in it." if apart else ""
        yield (
            f"Limit: {limit['rate']:.0f} items/s, {limit['cpu']:.0f} µs of CPU an item.{decoded}\n"
        )
        yield markdown(HEAD, rows(measured))
        if beside := list(ratios(measured)):
            yield "\nOurs over each peer's, of the same round: median (least to most).\n"
            yield markdown(["peer", "users", "answers/s", "p99"], beside)


def ratios(measured: Figures) -> Iterator[list[str]]:
    """Yield the cells of our answers/s and p99 over each peer's."""
    steps = {(step["server"], step["users"]): step for step in measured["steps"]}
    for name in PEERS:
        for users in sorted({users for _, users in steps}):
            if theirs := steps.get((name, users)):
                ours = steps[OURS, users]
                yield [name, str(users), *(spread(ours[key], theirs[key]) for key in PAIRED)]


def spread(ours: list[float], theirs: list[float]) -> str:
    """Return the median of the ratios, and how far they go; infinite where nothing came back."""
    pairs = zip(ours, theirs, strict=True)
    found = sorted(one / other if other else math.inf for one, other in pairs)
    return f"{median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def rows(measured: Figures) -> Iterator[list[str]]:
    """Yield the table's cells; a null net has no limit."""
    for step in sorted(measured["steps"], key=lambda step: step["server"]):
        known = step["server"] not in (NULL, NULL_FORM)
        share = f"{step['share']:.2f}" if known else "–"
        tax = f"{step['tax']:.2f}" if known else "–"
        rate, cpu = f"{step['rate']:.0f}", f"{step['cpu']:.0f}"
        times = [f"{step['p50']:.1f}", f"{step['p99']:.1f}"]
        who = [step["server"], str(step["users"])]
        yield [*who, rate, share, cpu, tax, *times, str(step["failed"])]


def plot(record: Figures, path: Path) -> None:
    """Draw CPU per answer, and answers per second, over users."""
    models = record["models"]
    figure, axes = plt.subplots(
        len(models), 2, figsize=(12, 4 * len(models)), layout="constrained", squeeze=False
    )
    for (left, right), measured in zip(axes, models, strict=True):
        names = dict.fromkeys(step["server"] for step in measured["steps"])
        for axis, what, label, scale in (
            (left, "cpu", "CPU µs per answer", "log"),
            (right, "rate", "answers per second", "linear"),
        ):
            shown = [name for name in names if name not in (NULL, NULL_FORM)]
            for place, name in enumerate(shown):
                steps = [step for step in measured["steps"] if step["server"] == name]
                axis.plot(
                    [step["users"] for step in steps],
                    [step[what] for step in steps],
                    "o-" if place < COLOURS else "s--",
                    label=name,
                )
            axis.axhline(measured["limit"][what], color="0.5", linestyle=":", label="limit")
            axis.set(xlabel="users", ylabel=label, xscale="log", title=measured["model"])
            axis.set_yscale(scale)
            axis.grid(color="0.9")
        right.set_ylim(bottom=0)
        right.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
