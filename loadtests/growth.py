"""Does cost grow in proportion? `python -m loadtests.growth MODEL [--out DIR]`.

An image classifier is asked by 1 to 256 users at once, with 1 to 64 pictures a request, and with
photos of 32×32 to 4000×3000 pixels. A cliff would be a step at which one answer, one picture or one
million pixels more suddenly costs much more than at the step before: the table tells the CPU of all
of the server's threads for each, the plot draws it.
"""

import base64
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: there is no screen

import matplotlib.pyplot as plt
from PIL import Image

from loadtests.generator import Figures, Generator, generator
from loadtests.options import conditions, options
from loadtests.samples import Sample, latest_version, read_model
from loadtests.server import Server, convserve
from loadtests.table import markdown

USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PICTURES = (1, 2, 4, 8, 16, 32, 64)
PHOTOS = ((32, 32), (128, 96), (400, 300), (800, 600), (1600, 1200), (2400, 1800), (4000, 3000))
SIMILAR = 3  # users where they are not what grows: they keep two cores busy, and the queue has room


@dataclass(frozen=True)
class Step:
    """One size: its name, how much of what grows a request holds, and what is sent by how many."""

    name: str
    amount: float
    sample: Sample
    users: int


def users(sample: Sample) -> Iterator[Step]:
    """Yield ever more users; what they cost is told for one answer."""
    for count in USERS:
        yield Step(str(count), 1, sample, count)


def pictures(sample: Sample) -> Iterator[Step]:
    """Yield ever more pictures in a request."""
    encoded = base64.b64encode(sample.body).decode()
    for count in PICTURES:
        body = json.dumps({"instances": [encoded] * count}).encode()
        yield Step(
            str(count), count, replace(sample, media_type="application/json", body=body), SIMILAR
        )


def photos(sample: Sample) -> Iterator[Step]:
    """Yield ever larger photos: the sample, enlarged, as JPEG."""
    picture = Image.open(BytesIO(sample.body)).convert("RGB")
    for size in PHOTOS:
        stream = BytesIO()
        picture.resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        photo = replace(sample, media_type="image/jpeg", body=stream.getvalue())
        yield Step(f"{size[0]}×{size[1]}", size[0] * size[1] / 1e6, photo, SIMILAR)


SWEEPS: dict[str, tuple[Callable[[Sample], Iterator[Step]], str]] = {
    "users": (users, "answer"),
    "pictures a request": (pictures, "picture"),
    "pixels": (photos, "request"),
}
"""What grows → its steps, and what the CPU is told for."""


def measure(server: Server, sample: Sample, load: Generator, rounds: int) -> Iterator[Figures]:
    """Yield the medians of each step of each sweep."""
    for name, (steps, unit) in SWEEPS.items():
        for step in steps(sample):
            found = [load.loop(server, step.sample, step.users) for _ in range(rounds)]
            each = step.amount if unit == "picture" else 1
            yield {
                "sweep": name,
                "step": step.name,
                "amount": step.amount,
                "cpu": median(1e3 * one["server_cpu"] / max(1, one["ok"]) / each for one in found),
                "rate": median(one["goodput_rps"] for one in found) * each,
                "p50": median(one["ok_p50_ms"] for one in found),
                "p99": median(one["ok_p99_ms"] for one in found),
                "failed": sum(one["answered"] - one["ok"] for one in found),
            }


def page(record: Figures) -> str:
    """Return the Markdown of a record."""
    lines = [
        "# Growth",
        "",
        f"`python -m loadtests.growth {record['model']}`, {record['date']}, {record['machine']}; "
        f"medians of {record['rounds']} rounds of {record['seconds']:g} s.",
        "",
        "![CPU and latency over users, pictures a request, and pixels](growth.png)",
    ]
    for name, (_, unit) in SWEEPS.items():
        head = [name, f"CPU ms / {unit}", f"{unit}s/s", "p50 ms", "p99 ms", "failed"]
        rows = (
            [
                step["step"],
                f"{step['cpu']:.2f}",
                f"{step['rate']:.0f}",
                f"{step['p50']:.1f}",
                f"{step['p99']:.1f}",
                str(step["failed"]),
            ]
            for step in record["steps"]
            if step["sweep"] == name
        )
        lines += ["", markdown(head, rows)]
    return "\n".join(lines) + "\n"


def plot(record: Figures, path: Path) -> None:
    """Draw CPU and latency over what grows."""
    figure, axes = plt.subplots(2, len(SWEEPS), figsize=(13, 7), layout="constrained")
    for column, (name, (_, unit)) in enumerate(SWEEPS.items()):
        steps = [step for step in record["steps"] if step["sweep"] == name]
        places = [float(s["step"]) if s["step"].isdecimal() else s["amount"] for s in steps]
        for row, what, label in ((0, "cpu", f"CPU ms per {unit}"), (1, "p50", "p50, ms")):
            axis = axes[row][column]
            values = [step[what] for step in steps]
            axis.plot(places, values, "o-")
            axis.set(xlabel="million pixels" if name == "pixels" else name, ylabel=label)
            axis.set_ylim(0, 1.08 * max(values))
            axis.grid(color="0.9")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Measure and write the record; 1 if a request failed."""
    parser = options(__doc__, seconds=2.0, rounds=3)
    parser.add_argument("model", metavar="MODEL")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    sample = read_model(asked.store / asked.model, 65536)[0]
    with tempfile.TemporaryDirectory() as scratch, generator(asked.seconds, 10_000) as load:
        newest = latest_version(asked.store / asked.model)
        shutil.copytree(newest, Path(scratch) / asked.model / newest.name)
        with convserve(Path(scratch)) as server:
            steps = list(measure(server, sample, load, asked.rounds))
    record: Figures = {
        "model": asked.model,
        **conditions(asked),
        "steps": steps,
    }
    (asked.out / "growth.json").write_text(json.dumps(record, indent=1) + "\n")
    (asked.out / "README.md").write_text(page(record))
    plot(record, asked.out / "growth.png")
    print(page(record))
    return int(any(step["failed"] for step in steps))


if __name__ == "__main__":
    sys.exit(main())
