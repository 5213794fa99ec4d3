"""Whether explanations point at what an answer hangs on, asked of the running service.

    python -m tests.measurements.explanations [ARTIFACT …]

Deletion (Petsiuk et al., 1806.07421): of 200 CIFAR-10 test pictures, drawn at random, the tiles
that a method finds most important are given the picture's mean colour first; the area under the
probability of the answer is small where they mattered. Beside it random orders, two a picture, and
of the difference a bootstrap 95 % interval over pictures.

Pointing game (Zhang et al., 1608.00507): test pictures of half a side are drawn on plain grey at
random places until the network has named 200 of them rightly; a method hits if the strongest place
of its map lies in the picture.

Prints the table, and keeps it with a plot of the curves in `tests/measurements/records/`.
CIFAR-10 lies where CONVSERVE_DATA says.
"""

import base64
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from convserve_models import data
from convserve_models.data import Split
from tests.e2e.process import ROOT, STORE, await_ready, serving
from tests.measurements.own_data import png

RECORDS = Path(__file__).parent / "records"
METHODS = ("occlusion", "cam", "gradient", "deconvnet", "guided")
ARTIFACTS = ("all_cnn_cifar10", "airbench_cifar10")
RANDOM = "random"
PICTURES = 200
SIDE, TILE, AT_ONCE = 32, 4, 8  # pixels, pixels, tiles
ORDERS, RESAMPLES = 2, 10_000
PATIENCE = 600  # seconds: what is answered counts, not when
Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass
class Model:
    """An image artifact in a running service."""

    client: httpx.Client
    name: str
    labels: list[str] = field(init=False)
    methods: list[str] = field(init=False)

    def __post_init__(self) -> None:
        card = self.client.get(f"/v1/models/{self.name}").json()
        self.labels = card["manifest"]["postprocess"]["labels"]
        self.methods = [method for method in METHODS if method in card["explanations"]]

    def probabilities(self, pictures: Sequence[Pixels]) -> Floats:
        """`[N, labels]`."""
        instances = [base64.b64encode(png(picture)).decode() for picture in pictures]
        body = {"instances": instances, "top_k": len(self.labels)}
        rows = self._asked("predict", json=body)["predictions"]
        found = [{e["label"]: e["probability"] for e in row["top"]} for row in rows]
        return np.array([[row[label] for label in self.labels] for row in found])

    def explained(self, picture: Pixels, method: str, target: int) -> Floats:
        """The map `[H, W]`."""
        query = {"method": method, "label": self.labels[target]}
        headers = {"Content-Type": "image/png"}
        answer = self._asked("explain", params=query, content=png(picture), headers=headers)
        return np.array(answer["map"])

    def _asked(self, what: str, **request: Any) -> Any:
        answer = self.client.post(f"/v1/models/{self.name}/{what}", **request)
        answer.raise_for_status()
        return answer.json()


@dataclass(frozen=True)
class Found:
    """What was measured of one artifact, by method."""

    curves: dict[str, Floats]
    """Probability `[pictures, steps]` of the answer while tiles go, `random` among the methods."""
    hits: dict[str, NDArray[np.bool_]]
    unnamed: int
    """Drawn pictures that the network did not name rightly, and that were left out."""

    def area(self, method: str) -> Floats:
        """Under each picture's curve."""
        return np.asarray(self.curves[method].mean(axis=1))

    def difference(self, method: str) -> tuple[float, float, float]:
        """The mean area minus that of random orders, and its bootstrap 95 % interval."""
        gaps = self.area(method) - self.area(RANDOM)
        random = np.random.default_rng(0)
        means = random.choice(gaps, (RESAMPLES, len(gaps))).mean(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        return float(gaps.mean()), float(low), float(high)


def main() -> None:
    names = sys.argv[1:] or ARTIFACTS
    found, lines = {}, [*HEAD]
    for name, one in measured(names):
        found[name] = one
        lines += _rows(name, one)
    print("\n".join(lines))
    RECORDS.mkdir(exist_ok=True)
    told = (__doc__ or "").partition("Prints")[0].split("\n\n", 2)
    command = f"`python -m tests.measurements.explanations {' '.join(names)}`"
    page = ["# Explanations", "", f"{command}: {told[0]}", "", told[2].strip(), "", *lines]
    page += ["", "![deletion curves](explanations.png)", ""]
    (RECORDS / "explanations.md").write_text("\n".join(page), encoding="utf-8")
    _plot(found).savefig(RECORDS / "explanations.png", dpi=90)


def measured(names: Sequence[str]) -> Iterator[tuple[str, Found]]:
    """Serve the store and measure these artifacts."""
    test = data.load("cifar10").test
    command = [str(Path(sys.executable).with_name("convserve")), "serve", "--store", str(STORE)]
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"CONVSERVE_MODELS": ",".join(names)}
        wanted["CONVSERVE_DEADLINE_MS"] = str(1000 * PATIENCE)
        log = Path(folder) / "log"
        with serving(command, cwd=ROOT, log=log, environment=wanted) as server:
            await_ready(server.client)
            server.client.timeout = httpx.Timeout(PATIENCE)
            for name in names:
                model = Model(server.client, name)
                hits, unnamed = pointing(model, test)
                yield name, Found(deletion(model, test), hits, unnamed)


def deletion(model: Model, test: Split) -> dict[str, Floats]:
    random = np.random.default_rng(0)
    curves: dict[str, list[Floats]] = {method: [] for method in (*model.methods, RANDOM)}
    for place in random.choice(len(test), PICTURES, replace=False):
        picture = np.asarray(test.inputs[place], np.uint8)
        target = int(model.probabilities([picture])[0].argmax())
        for method in model.methods:
            order = np.argsort(-_tiles(model.explained(picture, method, target)), kind="stable")
            curves[method].append(_curve(model, picture, target, order))
        orders = [random.permutation((SIDE // TILE) ** 2) for _ in range(ORDERS)]
        drawn = [_curve(model, picture, target, order) for order in orders]
        curves[RANDOM].append(np.mean(drawn, axis=0))
    return {method: np.array(rows) for method, rows in curves.items()}


def _tiles(map_: Floats) -> Floats:
    each = SIDE // TILE
    return np.asarray(map_.reshape(each, TILE, each, TILE).mean(axis=(1, 3)).ravel())


def _curve(model: Model, picture: Pixels, target: int, order: NDArray[np.int64]) -> Floats:
    """Probability of the target with no tile deleted, with the first eight, … with all."""
    copies = [picture]
    for start in range(0, len(order), AT_ONCE):
        copy = copies[-1].copy()
        for tile in order[start : start + AT_ONCE]:
            row, column = TILE * np.array(divmod(tile, SIDE // TILE))
            copy[row : row + TILE, column : column + TILE] = picture.mean(axis=(0, 1))
        copies.append(copy)
    return np.asarray(model.probabilities(copies)[:, target])


def pointing(model: Model, test: Split) -> tuple[dict[str, NDArray[np.bool_]], int]:
    """Whether each method points into the picture, and how many were not named rightly."""
    random = np.random.default_rng(1)
    hits: dict[str, list[bool]] = {method: [] for method in model.methods}
    unnamed = 0
    for place in random.permutation(len(test)):
        drawn, (top, left, side) = _drawn(np.asarray(test.inputs[place], np.uint8), random)
        target = int(test.labels[place])
        if int(model.probabilities([drawn])[0].argmax()) != target:
            unnamed += 1
            continue
        for method in model.methods:
            map_ = model.explained(drawn, method, target)
            row, column = np.unravel_index(map_.argmax(), map_.shape)
            inside = top <= row < top + side and left <= column < left + side
            hits[method].append(bool(inside))
        if len(hits[model.methods[0]]) == PICTURES:
            break
    return {method: np.array(row) for method, row in hits.items()}, unnamed


def _drawn(picture: Pixels, random: np.random.Generator) -> tuple[Pixels, tuple[int, int, int]]:
    """The picture at 16 to 20 pixels a side on plain grey, and its place."""
    side = int(random.integers(16, 21))
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    canvas = np.full((SIDE, SIDE, 3), random.integers(60, 200), np.uint8)
    top, left = (int(at) for at in random.integers(0, SIDE - side + 1, 2))
    canvas[top : top + side, left : left + side] = np.asarray(small)
    return canvas, (top, left, side)


HEAD = (
    "| artifact | method | deletion area | minus random | 95 % interval | points at the object |",
    "|---|---|---|---|---|---|",
)


def _rows(name: str, found: Found) -> Iterator[str]:
    for method, hits in found.hits.items():
        gap, low, high = found.difference(method)
        cells = (f"`{name}`", method, f"{found.area(method).mean():.3f}", f"{gap:+.3f}")
        yield f"| {' | '.join(cells)} | {low:+.3f} to {high:+.3f} | {hits.mean():.1%} |"
    both = (found.hits["cam"] & found.hits["occlusion"]).mean()
    told = f"cam and occlusion both point at it in {both:.1%}; {found.unnamed} not named, left out"
    yield f"| `{name}` | {RANDOM} | {found.area(RANDOM).mean():.3f} | | | {told} |"


def _plot(found: dict[str, Found]) -> Figure:
    figure = Figure(figsize=(5 * len(found), 4), layout="constrained")
    for axes, (name, one) in zip(
        np.ravel(figure.subplots(1, len(found))), found.items(), strict=True
    ):
        for method, rows in one.curves.items():
            style = {"color": "black", "linestyle": ":"} if method == RANDOM else {}
            axes.plot(np.linspace(0, 1, rows.shape[1]), rows.mean(axis=0), label=method, **style)
        axes.set(title=f"{name}, n = {PICTURES}", xlabel="share of the picture deleted")
        axes.set(ylabel="mean probability of the answer", ylim=(0, 1))
        axes.legend()
    return figure


if __name__ == "__main__":
    main()
