"""What an answer of each model in the store costs: processor time of its graph, on one thread.

    python -m tests.measurements.cost

Runs each graph alone on its first golden, in turns, so that a busy moment hits all alike, and takes
the median of the thread's processor time. Writes `tests/measurements/cost.json`, from which
`docs/generate.py` makes a column of the README.
"""

import json
import re
from pathlib import Path
from statistics import median
from time import thread_time

from convserve.artifact import Artifact, load_artifact
from convserve.engine import Arrays
from convserve.engine.session import RUNTIME, Session
from convserve.preprocess import build
from convserve.settings import Settings

STORE = Path("models/store")
RECORD = Path(__file__).with_suffix(".json")
ROUNDS = 21


def main() -> None:
    artifacts = [load_artifact(max(path.glob("[0-9]*"), key=_version)) for path in _models()]
    runs = [(Session(one.graph, 1), _item(one)) for one in artifacts]
    rounds = [[_seconds(session, item) for session, item in runs] for _ in range(ROUNDS)]
    taken = [median(column) for column in zip(*rounds[1:], strict=True)]  # the first warms up
    costs = {
        one.manifest.id: {
            "sha256": one.manifest.graphs.predict.sha256,
            "milliseconds": round(1e3 * seconds, 2),
        }
        for one, seconds in zip(artifacts, taken, strict=True)
    }
    record = {"cpu": cpu(), "runtime": RUNTIME, "rounds": ROUNDS - 1, "models": costs}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    for name, cost in costs.items():
        print(f"{name:24} {cost['milliseconds']:8} ms")


def _models() -> list[Path]:
    return sorted(path for path in STORE.iterdir() if path.is_dir())


def _version(path: Path) -> int:
    return int(path.name)


def _item(artifact: Artifact) -> Arrays:
    """The first golden, as a batch of one."""
    golden = artifact.path / artifact.manifest.goldens[0].input
    prepared = build(artifact.manifest, Settings()).peek(golden.read_bytes()).finish()
    return {name: array[None] for name, array in prepared.inputs.items()}


def _seconds(session: Session, item: Arrays) -> float:
    started = thread_time()
    session.run(item)
    return thread_time() - started


def cpu() -> str:
    """The processor's name, and whether it has the wide instructions that matter here."""
    about = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", about)
    wide = " with AVX-512" if "avx512f" in about else ""
    return f"{name[1] if name else 'unknown'}{wide}"


if __name__ == "__main__":
    main()
