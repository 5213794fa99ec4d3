"""The README's sections on one's own network and data, as they stand there."""

import csv
import sys
import time
from pathlib import Path

import httpx
import pytest

from convserve_models import cli, data
from convserve_models.data import Dataset
from loadtests.samples import Sample
from tests.contract.photographs import cuts, samples
from tests.e2e.own_network import LABEL, bring, commands, first_answer, run
from tests.e2e.process import await_ready, predicted, serving

DATA = data.data_root()
BIN = Path(sys.executable).parent


def test_an_onnx_file_is_answered_within_a_minute(tmp_path: Path) -> None:
    bring(tmp_path)
    started = time.monotonic()
    assert first_answer(tmp_path, BIN) == LABEL
    taken = time.monotonic() - started
    print(f"from the ONNX file to the first answer: {taken:.1f} s")
    assert taken < 60


def test_the_commands_on_data_are_the_clis() -> None:
    for command in commands("Your own data"):
        options = cli.parser().parse_args(command.split()[1:])
        assert options.data
        assert str(options.store) == "my_store"


def write_csv(file: Path, dataset: Dataset, n: int) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["text", "label"])
        for text, label in zip(dataset.train.inputs[:n], dataset.train.labels[:n], strict=True):
            writer.writerow([text, dataset.card.labels[label]])


@pytest.mark.accuracy
@pytest.mark.timeout(900)
def test_photos_and_texts_are_served_after_one_command(tmp_path: Path) -> None:
    """60 photographs of two classes, 500 texts: cuts of scikit-image's samples, rows of AG News."""
    photos = samples(tmp_path)
    for kind, sample in (("cat", "chelsea"), ("coffee", "coffee")):
        (tmp_path / "my_photos" / kind).mkdir(parents=True)
        for place, part in enumerate(cuts(photos[sample], 30, 1200)):
            part.save(tmp_path / "my_photos" / kind / f"{place}.jpg")
    news = data.load("ag_news", DATA)
    write_csv(tmp_path / "texts.csv", news, 500)
    held = next(cuts(photos["coffee"], 1, 1200, seed=1))
    held.save(tmp_path / "new.jpg")
    environment = f"CONVSERVE_RUNS={tmp_path / 'runs'}"
    for command in commands("Your own data"):
        print(run(f"{environment} {command}", tmp_path, BIN))
    serve = [str(BIN / "convserve"), "serve", "--store", "my_store"]
    with serving(serve, cwd=tmp_path, log=tmp_path / "log") as s:
        await_ready(s.client)
        photo = (tmp_path / "new.jpg").read_bytes()
        assert label(s.client, "my_photos", photo, "image/jpeg") == "coffee"
        text = str(news.test.inputs[0]).encode()
        assert label(s.client, "texts", text, "text/plain") in news.card.labels


def label(client: httpx.Client, model: str, body: bytes, media: str) -> str:
    return predicted(client, Sample(model, "1", media, body, frozenset()))
