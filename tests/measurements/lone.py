"""What a lone request costs: `python -m tests.measurements.lone MODEL … [--out DIR]`.

For each classifier, turn about in one run: bare ONNX Runtime (one thread, no spinning, the input
ready), the same request to a null net of equal preprocessing (`loadtests.nulls`: HTTP, decoding,
answer), and to the model. The median of the last may exceed the sum of the medians of the first
two by 5 % or 0.2 ms, whichever is more. Exit status 1 if one exceeds that.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from convserve.artifact import load_artifact
from convserve.preprocess import build
from convserve.settings import Settings
from loadtests.bare import Bare
from loadtests.generator import Generator, generator
from loadtests.nulls import null
from loadtests.options import options
from loadtests.samples import Sample, latest_version, read_model
from loadtests.server import Server, convserve
from loadtests.table import markdown

SHARE, LEAST = 0.05, 0.2  # ms
Row = dict[str, Any]


def main() -> int:
    """Measure, print a table, write it."""
    parser = options(__doc__, seconds=1.0, rounds=7)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    asked = parser.parse_args()
    rows = []
    for model in asked.models:
        with tempfile.TemporaryDirectory() as scratch, generator(asked.seconds, 10_000) as load:
            rows.append(measure(asked.store / model, Path(scratch), load, asked.rounds))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "lone.json").write_text(json.dumps(rows, indent=1) + "\n")
    (asked.out / "lone.md").write_text(page(rows))
    print(page(rows))
    return int(any(row["lone"] > row["bar"] for row in rows))


def measure(artifact: Path, store: Path, load: Generator, rounds: int) -> Row:
    """Return the medians in milliseconds."""
    newest = latest_version(artifact)
    shutil.copytree(newest, store / artifact.name / newest.name)
    models = [artifact.name, null(newest, store)]
    (store / "store.json").write_text(json.dumps({"default": models}))
    real, empty = (read_model(store / model, 65536)[0] for model in models)
    known = load_artifact(newest)
    prepared = build(known.manifest, Settings()).peek(real.body).finish()
    bare = Bare(known.graph, prepared.inputs)
    found: dict[str, list[float]] = {"bare": [], "null": [], "lone": []}
    with convserve(store) as server:
        for _ in range(rounds):
            found["bare"].append(bare.median(load.seconds))
            found["null"].append(_lone(load, server, empty))
            found["lone"].append(_lone(load, server, real))
    row: Row = {name: median(values) for name, values in found.items()}
    floor = row["bare"] + row["null"]
    return {"model": artifact.name, **row, "bar": floor + max(LEAST, SHARE * floor)}


def _lone(load: Generator, server: Server, sample: Sample) -> float:
    taken: float = load.loop(server, sample, users=1)["ok_p50_ms"]
    return taken


def page(rows: list[Row]) -> str:
    """Return the table."""
    head = [
        "model",
        "bare run",
        "HTTP, decoding, answer",
        "both, and the allowance",
        "lone request",
    ]
    cells = ("bare", "null", "bar", "lone")
    lines = [[f"`{row['model']}`", *(f"{row[name]:.2f} ms" for name in cells)] for row in rows]
    return markdown(head, lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
