"""What integers save: `python -m tests.measurements.int8 [--emulate Haswell]`.

Processor time an input of the graph of floats and that of integers, on one thread, in turns of a
twentieth of a second: of every artifact in the store that has both, on its first golden, and of
`loadtests.nets` (random weights: speed only), quantized on the spot, on their picture. The median
over the rounds of the ratio, and where the middle 80 % of them lie. Writes
`tests/measurements/records/int8.md`.

`--emulate CPU` (Debian: apt-get install qemu-user) adds whether integers answer the same on another
processor: the goldens and shifted copies of them, by weights of 7 bits and of 8.
"""

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median, quantiles
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convserve.artifact import Artifact, load_artifact
from convserve.engine.session import RUNTIME, Session
from convserve.preprocess import build
from convserve.settings import Settings
from convserve_models import quantize
from loadtests import nets
from loadtests.table import markdown
from tests.measurements import answers
from tests.measurements.cost import cpu

STORE = Path("models/store")
RECORD = Path(__file__).parent / "records" / "int8.md"
SIZES = (1, 8)
WARM, TURN_SECONDS = 3, 0.05
COPIES = 40
HEAD = ["network", "batch", "float, ms an input", "int8", "float / int8", "middle 80 %"]
ELSEWHERE = ["artifact", "bits of weights", "answers", "other label", "largest difference"]


@dataclass(frozen=True)
class Pair:
    """A network's two graphs, its figures, and inputs [N, …] for them."""

    name: str
    floats: Path
    integers: Path
    inputs: NDArray[Any]
    figures: str = ""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--emulate", metavar="CPU")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        shipped = list(_shipped())
        timed = [*shipped, *_random(Path(scratch))]
        rows = [row for pair in timed for row in compare(pair, asked.rounds)]
        lines = [
            "# Integers of 8 bits",
            "",
            f"`python -m tests.measurements.int8`, one thread of an {cpu()}, {RUNTIME}, medians of "
            f"{asked.rounds} rounds in turns.",
            "",
            markdown(HEAD, rows),
            "",
            "Networks with random weights are timed only. On the test split, with thresholds of "
            "the graph of floats:",
            "",
            *(f"- `{pair.name}`: {pair.figures}" for pair in shipped),
        ]
        if asked.emulate:
            found = [row for pair in shipped for row in _elsewhere(pair, asked.emulate, scratch)]
            lines += [
                "",
                f"An emulated {asked.emulate} (`--emulate {asked.emulate}`) beside this processor, "
                f"the goldens and shifted copies of them:",
                "",
                markdown(ELSEWHERE, found),
            ]
    RECORD.write_text("\n".join(lines) + "\n")
    print(RECORD.read_text())


def compare(pair: Pair, rounds: int) -> Iterator[list[str]]:
    """Yield the cells of each batch size."""
    sessions = [Session(path, 1) for path in (pair.floats, pair.integers)]
    name = sessions[0].inputs[0].name
    for size in SIZES:
        feed = {name: pair.inputs[:1].repeat(size, axis=0)}
        runs = [ceil(TURN_SECONDS / _seconds(session, feed, WARM)) for session in sessions]
        turns = [
            [_seconds(session, feed, n) for session, n in zip(sessions, runs, strict=True)]
            for _ in range(rounds)
        ]
        ratios = [slow / quick for slow, quick in turns]
        times = [1e3 * median(column) / size for column in zip(*turns, strict=True)]
        low, *_, high = quantiles(ratios, n=10)
        told = [f"{time:.2f}" for time in times]
        yield [f"`{pair.name}`", str(size), *told, f"{median(ratios):.2f}", f"{low:.2f}–{high:.2f}"]


def _seconds(session: Session, feed: dict[str, NDArray[Any]], runs: int) -> float:
    """Of one run, when it follows others of the same graph."""
    started = thread_time()
    for _ in range(runs):
        session.run(feed)
    return (thread_time() - started) / runs


def _shipped() -> Iterator[Pair]:
    for path in sorted(STORE.glob("*/*/int8.onnx")):
        artifact = load_artifact(path.parent)
        inputs = np.stack([_input(artifact, golden.input) for golden in artifact.manifest.goldens])
        yield Pair(artifact.manifest.id, artifact.graph, path, inputs, _figures(path.parent))


def _input(artifact: Artifact, file: str) -> NDArray[Any]:
    prepared = build(artifact.manifest, Settings()).peek((artifact.path / file).read_bytes())
    (array,) = prepared.finish().inputs.values()
    return array


def _figures(path: Path) -> str:
    """Of floats, then of integers."""
    facts = json.loads((path / "manifest.json").read_text())
    both = [{m["name"]: m for m in facts["metrics"]}]
    both.append({m["name"]: m for m in facts["graphs"]["int8"]["metrics"]})
    names = ("accuracy", "ece", "coverage", "in_distribution")
    told = [
        f"{name} {both[0][name]['value']:.4f} and {both[1][name]['value']:.4f}"
        for name in names
        if name in both[1]
    ]
    return f"{', '.join(told)} (n = {both[1]['accuracy']['n']:,})"


def _random(scratch: Path) -> Iterator[Pair]:
    for name in nets.NETS:
        artifact = load_artifact(nets.write(name, scratch))
        picture = _input(artifact, artifact.manifest.goldens[0].input)
        integers = artifact.path / quantize.FILE
        quantize.write(artifact.graph, integers, _shifted(picture[None], quantize.BATCH))
        yield Pair(name, artifact.graph, integers, picture[None])


def _shifted(inputs: NDArray[Any], n: int) -> NDArray[Any]:
    """So many of them, beginning elsewhere each time all had their turn."""
    turns = range(0, n, len(inputs))
    return np.concatenate([np.roll(inputs, turn, axis=1) for turn in turns])[:n]


def _elsewhere(pair: Pair, processor: str, scratch: str) -> Iterator[list[str]]:
    folder = Path(scratch)
    inputs = _shifted(pair.inputs, COPIES)
    np.save(folder / "inputs.npy", inputs)
    eight = folder / "eight.onnx"
    quantize.write(pair.floats, eight, inputs, bits=8)
    for bits, graph in ((7, pair.integers), (8, eight)):
        here = _answers(graph, folder, [])
        there = _answers(graph, folder, ["qemu-x86_64", "-cpu", processor])
        others = int((here.argmax(axis=1) != there.argmax(axis=1)).sum())
        cells = [str(len(inputs)), str(others), f"{np.abs(here - there).max():.2g}"]
        yield [f"`{pair.name}`", str(bits), *cells]


def _answers(graph: Path, folder: Path, enter: Sequence[str]) -> NDArray[np.float32]:
    script = str(answers.__file__)
    files = [str(graph), str(folder / "inputs.npy"), str(folder / "answers.npy")]
    subprocess.run([*enter, sys.executable, script, *files], check=True)
    found: NDArray[np.float32] = np.load(files[-1])
    return found


if __name__ == "__main__":
    main()
