"""Locust's entry: the command line, the wiring, the verdict.

Run it through `make load`, or by hand against any server:
`python -m locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:8000 --loop closed`
"""

import json
import math
import os
import platform
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from locust import constant, constant_throughput, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.plan import Plan
from loadtests.record import TOTAL, Record, Thresholds
from loadtests.samples import Sample, read_store
from loadtests.shapes import Arrivals, Steps
from loadtests.table import table
from loadtests.users import MODALITIES, AudioUser, CepstraUser, ImageUser, TextUser

__all__ = ["Arrivals", "AudioUser", "CepstraUser", "ImageUser", "Steps", "TextUser"]

CLOSED_LOADS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Users of each modality."""
OPEN_SHARES = (0.25, 0.5, 0.75)


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add this project's options; each has a variable of its name."""
    add = parser.add_argument_group("convserve").add_argument
    add("--loop", choices=("closed", "open"), default="closed", env_var="LOAD_LOOP")
    add("--loads", env_var="LOAD_STEPS", help="users (closed) or requests/s (open), as 1,4,16")
    add("--seconds", type=float, default=8.0, env_var="LOAD_SECONDS", help="length of a step")
    add("--settle", type=float, default=2.0, env_var="LOAD_SETTLE", help="of it not counted")
    add("--pace", type=float, env_var="LOAD_PACE", help="requests/s of one closed user, at most")
    add("--store", type=Path, default=Path("models/store"), env_var="LOAD_STORE")
    add("--max-bytes", type=int, default=65536, env_var="LOAD_MAX_BYTES", help="of one sample")
    add("--report", type=Path, default=Path("loadtests/report"), env_var="LOAD_REPORT")
    add("--max-p99", type=float, env_var="LOAD_MAX_P99", help="ms, in every step")
    add("--min-throughput", type=float, env_var="LOAD_MIN_THROUGHPUT", help="1/s, best closed step")
    add("--max-failure-ratio", type=float, default=0.0, env_var="LOAD_MAX_FAILURE_RATIO")


@events.init.add_listener
def wire(environment: Environment, **_: Any) -> None:
    """Give the users their samples and the shape its plan, and record every request."""
    options = environment.parsed_options
    assert options is not None
    samples = read_store(options.store, options.max_bytes)
    closed = [user for user in MODALITIES if user.modality in samples]
    plan = make_plan(options, len(closed))
    for user in closed:
        user.samples = samples[user.modality]
        user.wait_time = constant_throughput(options.pace) if options.pace else constant(0)
    everything = [sample for group in samples.values() for sample in group]
    Steps.plan = Arrivals.plan = plan
    Arrivals.samples = everything
    Steps.users = [Arrivals] if plan.loop == "open" else list(closed)
    environment.stop_timeout = Arrivals.network_timeout + 5
    record = Record(plan)
    environment.events.request.add_listener(lambda **r: listen(record, environment, **r))
    environment.events.quitting.add_listener(
        lambda **_: conclude(record, environment, options, everything)
    )


def make_plan(options: Namespace, modalities: int) -> Plan:
    """Return the steps asked for; an open loop without any takes shares of the closed peak."""
    if options.loads:
        loads = tuple(float(load) for load in options.loads.split(","))
    elif options.loop == "closed":
        loads = tuple(modalities * load for load in CLOSED_LOADS)
    else:
        closed = json.loads((options.report / "closed.json").read_text())
        peak = max(step["models"][TOTAL]["throughput"] for step in closed["steps"])
        loads = tuple(math.ceil(share * peak) for share in OPEN_SHARES)
    return Plan(options.loop, loads, options.seconds, options.settle)


def listen(
    record: Record,
    environment: Environment,
    *,
    name: str,
    response_time: float,
    exception: BaseException | None,
    **_: Any,
) -> None:
    """Count one finished request."""
    assert environment.shape_class is not None
    latency = response_time / 1000
    due = time.perf_counter() - latency - environment.shape_class.start_time
    record.add(name, due, latency, None if exception is None else str(exception))


def conclude(
    record: Record, environment: Environment, options: Namespace, samples: list[Sample]
) -> None:
    """Write and print the measurements, set the exit status by the thresholds."""
    steps = record.steps()
    # An open loop's throughput is what was asked for, so it has no bar.
    least = options.min_throughput if record.plan.loop == "closed" else None
    thresholds = Thresholds(options.max_p99, least, options.max_failure_ratio)
    missed = list(thresholds.missed(steps))
    result = {
        "loop": record.plan.loop,
        "date": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "host": environment.host,
        "generator": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "models": sorted({f"{s.model}/{s.version}" for s in samples}),
        "samples": len(samples),
        "mean_bytes": round(sum(len(s.body) for s in samples) / len(samples)),
        "seconds": record.plan.seconds,
        "settle": record.plan.settle,
        "missed": missed,
        "steps": steps,
    }
    options.report.mkdir(parents=True, exist_ok=True)
    (options.report / f"{record.plan.loop}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(result), flush=True)
    for sentence in missed:
        print(f"threshold missed: {sentence}", file=sys.stderr)
    environment.process_exit_code = 1 if missed else 0
