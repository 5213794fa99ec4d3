"""What `convserve-models train --data` makes of little data: how long it takes, how right it is.

    python -m tests.measurements.own_data [thumbnails] [photographs] [faces] [texts]

Each set is written as its owner would have it (a folder per class, a CSV file), trained by the one
command, served, and asked over HTTP about samples that were in no folder:

- thumbnails: 50 CIFAR-10 training pictures of each class as PNGs; 2,000 of the test pictures
- photographs: 60 JPEGs, ten cuts of each of six photographs (scikit-image's and scikit-learn's), of
  something alive or of something made; 60 other cuts of the same photographs
- faces: 60 pictures of 25×25 from scikit-image's subset of Labeled Faces in the Wild, half of them
  faces; the other 140
- texts: 500 rows of AG News; 2,000 test texts

CIFAR-10 and AG News lie where CONVSERVE_DATA says; scikit-image's wheel is fetched by pip. Seconds
are those of the whole command, and end with artifact and report.
"""

import csv
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from convserve_models import data
from convserve_models.tasks.classification import wilson
from loadtests.samples import Sample
from tests.contract.photographs import cuts, download, encoded, samples
from tests.e2e.process import await_ready, predicted, serving

BIN = Path(sys.executable).parent
ASKED = 2000
Question = tuple[bytes, str]
"""A body, and the label that is true of it."""


@dataclass(frozen=True)
class Own:
    """What somebody comes with, and what is asked of them later."""

    path: Path
    media: str
    questions: Sequence[Question]


def main() -> None:
    print("| data | labels | samples | seconds | of n asked over HTTP | right | 95 % interval |")
    print("|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or SETS:
        with tempfile.TemporaryDirectory() as scratch:
            print(measured(SETS[name](Path(scratch) / name), Path(scratch)), flush=True)


def measured(own: Own, scratch: Path) -> str:
    started = perf_counter()
    train(own.path, scratch)
    seconds = perf_counter() - started
    answers = asked(own, scratch)
    true = [label for _, label in own.questions]
    rate = float(np.mean([a == b for a, b in zip(answers, true, strict=True)]))
    low, high = wilson(rate, len(true))
    cells = [own.path.stem, len(set(true)), _size(own.path), f"{seconds:.0f}", len(true)]
    cells += [f"{rate:.1%}", f"{low:.1%}–{high:.1%}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def train(path: Path, scratch: Path) -> None:
    command = [str(BIN / "convserve-models"), "train", "--data", str(path)]
    environment = {**os.environ, "CONVSERVE_RUNS": str(scratch / "runs")}
    done = subprocess.run(
        [*command, "--store", str(scratch / "store")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(done.stderr)
    print(done.stdout, file=sys.stderr)


def asked(own: Own, scratch: Path) -> list[str]:
    command = [str(BIN / "convserve"), "serve", "--store", str(scratch / "store")]
    with serving(command, cwd=scratch, log=scratch / "log") as server, ThreadPoolExecutor(2) as two:
        await_ready(server.client)

        def ask(question: Question) -> str:
            return answered(server.client, own, question[0])

        return list(two.map(ask, own.questions))


def answered(client: httpx.Client, own: Own, body: bytes) -> str:
    return predicted(client, Sample(own.path.stem, "1", own.media, body, frozenset()))


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(1 for file in path.rglob("*") if file.is_file())
    return len(path.read_text(encoding="utf-8").splitlines()) - 1


def thumbnails(folder: Path) -> Own:
    cifar10 = data.load("cifar10")
    names = cifar10.card.labels
    pictures, labels = np.asarray(cifar10.train.inputs), cifar10.train.labels
    for label, name in enumerate(names):
        for place in np.flatnonzero(labels == label)[:50]:
            _keep(folder / name / f"{place}.png", png(pictures[place]))
    test = cifar10.test.take(np.arange(ASKED))
    true = [names[label] for label in test.labels]
    return Own(folder, "image/png", [*zip(map(png, test.inputs), true, strict=True)])


def photographs(folder: Path) -> Own:
    with tempfile.TemporaryDirectory() as scratch:
        photos = samples(Path(scratch))
    photos["flower"] = Image.fromarray(load_sample_images().images[1])
    kinds = {
        "alive": ("astronaut", "chelsea", "flower"),
        "made": ("coffee", "motorcycle_left", "rocket"),
    }
    questions = []
    for kind, names in kinds.items():
        for name in names:
            parts = [encoded(part) for part in cuts(photos[name], 20, 1200)]
            for place, part in enumerate(parts[:10]):
                _keep(folder / kind / f"{name}-{place}.jpg", part)
            questions += [(part, kind) for part in parts[10:]]
    return Own(folder, "image/jpeg", questions)


def faces(folder: Path) -> Own:
    with tempfile.TemporaryDirectory() as scratch:
        file = download("scikit-image", Path(scratch))
        with zipfile.ZipFile(file) as wheel:
            pictures = np.load(io.BytesIO(wheel.read("skimage/data/lfw_subset.npy")))
    grey = [png((255 * picture).astype(np.uint8)) for picture in pictures]
    kinds = {
        "face": grey[:100],
        "something else": grey[100:],
    }  # in this order, says its description
    for kind, parts in kinds.items():
        for place, part in enumerate(parts[:30]):
            _keep(folder / kind / f"{place}.png", part)
    return Own(
        folder, "image/png", [(p, kind) for kind, parts in kinds.items() for p in parts[30:]]
    )


def texts(path: Path) -> Own:
    news = data.load("ag_news")
    file = path.with_suffix(".csv")
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["text", "label"])
        writer.writerows(_labelled(news.train, news.card.labels, 500))
    questions = [(t.encode(), label) for t, label in _labelled(news.test, news.card.labels, ASKED)]
    return Own(file, "text/plain", questions)


def _labelled(split: data.Split, names: Sequence[str], n: int) -> list[tuple[str, str]]:
    return [(split.inputs[i], names[split.labels[i]]) for i in range(n)]


def _keep(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


SETS: dict[str, Callable[[Path], Own]] = {
    "thumbnails": thumbnails,
    "photographs": photographs,
    "faces": faces,
    "texts": texts,
}

if __name__ == "__main__":
    main()
