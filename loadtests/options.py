"""The command line that the measurements of models share, and what their records say of it."""

import os
import platform
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def options(doc: str | None, seconds: float, rounds: int | None = None) -> ArgumentParser:
    """Return a parser of the store, where reports go, the seconds of a step, and the rounds."""
    parser = ArgumentParser(description=doc)
    parser.add_argument("--store", type=Path, default=Path("models/store"))
    parser.add_argument("--out", type=Path, default=Path("loadtests/report"))
    parser.add_argument("--seconds", type=float, default=seconds, help="of each step")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="that take turns")
    return parser


def conditions(asked: Namespace) -> dict[str, Any]:
    """Return when, where and how often was measured."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"Python {platform.python_version()}",
        "rounds": asked.rounds,
        "seconds": asked.seconds,
    }
