"""What became of a training on one's own data: figures, confusions and errors on one page."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import onnxruntime as ort
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from convserve_models import network
from convserve_models.data import Dataset
from convserve_models.recipe import Recipe

ERRORS = 8
"""Examples shown of each class."""
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #ddd}figure{display:inline-block;margin:.4rem;width:9rem;"
    "vertical-align:top}figure img{width:9rem}figcaption{font-size:.8rem}"
    "blockquote{margin:.4rem 0;padding:.2rem .8rem;border-left:3px solid #bbb}img{max-width:100%}"
)


def write(artifact: Path, recipe: Recipe, dataset: Dataset, folder: Path) -> Path:
    """Write `report.html`, which needs no other file, and return it."""
    card = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    probabilities = _probabilities(artifact, recipe, dataset)
    parts = [
        f"<h1>{html.escape(card['title'])}</h1>",
        f"<p>{html.escape(_told(dataset, recipe))}</p>",
        *_figures(card),
        "<h2>What is taken for what</h2>",
        _picture(_confusions(probabilities, dataset)),
        "<h2>Errors, the surest first</h2>",
        *_errors(probabilities, dataset),
    ]
    page = folder / "report.html"
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(card['title'])}"
    body = "\n".join(parts)
    page.write_text(f"{head}</title><style>{STYLE}</style>\n{body}\n", encoding="utf-8")
    return page


def _probabilities(artifact: Path, recipe: Recipe, dataset: Dataset) -> NDArray[np.float32]:
    session = ort.InferenceSession(artifact / "model.onnx", providers=["CPUExecutionProvider"])
    name = recipe.preprocess.input_name
    rows = [
        session.run(["probabilities"], {name: network.tensor(recipe, part).numpy()})[0]
        for part in network.batches(dataset.test, 50)
    ]
    return np.concatenate(rows)


def _told(dataset: Dataset, recipe: Recipe) -> str:
    trained = len(dataset.train) - recipe.held_out
    return (
        f"{trained:,} samples to train on, {recipe.held_out:,} to calibrate with, "
        f"{len(dataset.test):,} to test with; {len(dataset.card.labels)} labels. "
        "All figures are of the exported file on the test samples, which nothing else has seen."
    )


def _figures(card: dict[str, Any]) -> Iterator[str]:
    yield "<table><tr><th>figure<th>value<th>95 % interval<th>n"
    for figure in card["metrics"]:
        yield _row(figure["name"], figure)
    for figure in card["baselines"]:
        yield _row(f"{figure['name']} of a {figure['model']}", figure)
    yield "</table>"


def _row(name: str, figure: dict[str, Any]) -> str:
    interval = "".join(f"{end:.3f} – " for end in figure.get("interval", ())).removesuffix(" – ")
    cells = (name.replace("_", " "), f"{figure['value']:.3f}", interval, f"{figure['n']:,}")
    return "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in cells)


def _confusions(probabilities: NDArray[np.float32], dataset: Dataset) -> Figure:
    labels = dataset.card.labels
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, (dataset.test.labels, probabilities.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 3 + 0.45 * len(labels)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(counts):
        if count and len(labels) <= 30:
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=shade)
    return figure


def _picture(figure: Figure) -> str:
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "convserve"}):
        figure.savefig(stream, format="png", dpi=110)
    return _image(stream.getvalue(), "png", "confusion matrix")


def _image(content: bytes, kind: str, told: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(told)}" src="data:image/{kind};base64,{data}">'


def _errors(probabilities: NDArray[np.float32], dataset: Dataset) -> Iterator[str]:
    answered = probabilities.argmax(axis=1)
    sureness = probabilities.max(axis=1)
    for label, name in enumerate(dataset.card.labels):
        own = dataset.test.labels == label
        wrong = np.flatnonzero(own & (answered != label))
        yield f"<h3>{html.escape(name)}: {len(wrong)} of {int(own.sum())}</h3>"
        for place in wrong[np.argsort(-sureness[wrong])][:ERRORS]:
            told = f"{dataset.card.labels[answered[place]]} {sureness[place]:.2f}"
            yield _example(dataset.test.inputs[place], told)


def _example(sample: Any, told: str) -> str:
    if isinstance(sample, str):
        return f"<blockquote>{html.escape(sample[:400])}<br><b>{html.escape(told)}</b></blockquote>"
    stream = io.BytesIO()
    Image.fromarray(sample).save(stream, "JPEG", quality=80)
    shown = _image(stream.getvalue(), "jpeg", told)
    return f"<figure>{shown}<figcaption>{html.escape(told)}</figcaption></figure>"
