"""One's own data: what a folder or a CSV must be, what comes of it, what is told of errors."""

import csv
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convserve.settings import Settings
from convserve.validation import validate
from convserve_models import cli, finetune, own, pretrained, recipes, reference
from convserve_models.data import Dataset, FetchError, UnusableData, folder, imagenet
from convserve_models.recipe import Preprocess, Recipe
from convserve_models.zoo.efficientnet_lite import EfficientNetLite

COLOURS = {"blue sky": 2, "green grass": 1, "red wall": 0}
FEW = ("green grass", "red wall")
PREPROCESS = Preprocess.square(32)


def make_pictures(root: Path, a_class: int = 20, side: int = 40) -> Path:
    """Noise with one strong channel, in the folder of that class."""
    random = np.random.default_rng(0)
    for name, channel in COLOURS.items():
        (root / name).mkdir(parents=True)
        for place in range(a_class):
            pixels = random.integers(0, 120, (side, side + place, 3), np.uint8)
            pixels[:, :, channel] += 100
            Image.fromarray(pixels).save(root / name / f"{place}.png")
    return root


def make_texts(file: Path, n: int = 60) -> Path:
    words = {"sport": "goal match team", "trade": "shares profit bank"}
    random = np.random.default_rng(0)
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["label", "text"])
        for place in range(n):
            label = list(words)[place % 2]
            writer.writerow([label, " ".join(random.choice(words[label].split(), 12))])
    return file


def read(root: Path) -> Dataset:
    image = partial(reference.image, steps=PREPROCESS.steps)
    return folder.images(root, image, imagenet.MEAN, imagenet.STD)


def test_a_folder_is_a_dataset_with_a_test_split_of_every_class(tmp_path: Path) -> None:
    dataset = read(make_pictures(tmp_path / "My Photos"))
    assert dataset.card.name == "my_photos"
    assert dataset.card.labels == tuple(COLOURS)
    assert len(dataset.train) + len(dataset.test) == 60
    assert len(dataset.test) >= 9
    assert set(dataset.test.labels) == {0, 1, 2}
    for split in (dataset.train, dataset.test):
        strongest = np.asarray(split.inputs).mean(axis=(1, 2)).argmax(axis=1)
        assert [list(COLOURS.values())[label] for label in split.labels] == strongest.tolist()
    again = read(tmp_path / "My Photos")
    assert (again.train.digest(), again.test.digest()) == (
        dataset.train.digest(),
        dataset.test.digest(),
    )


def test_a_file_that_is_no_picture_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_pictures(tmp_path / "photos")
    (root / "blue sky" / "notes.jpg").write_text("no picture")
    dataset = read(root)
    assert len(dataset.train) + len(dataset.test) == 60
    assert "notes.jpg is left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: [(root / name).rename(root / f".{name}") for name in FEW], "1 folders"),
        (lambda root: (root / "empty").mkdir(), "'empty' holds no picture"),
        (lambda root: [(root / "red wall" / f"{i}.png").unlink() for i in range(17)], "3 of 'red"),
    ],
)
def test_what_is_missing_in_a_folder_is_told(tmp_path: Path, change: object, words: str) -> None:
    root = make_pictures(tmp_path / "photos")
    assert callable(change)
    change(root)
    with pytest.raises(UnusableData, match=words):
        folder.pictures(root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "must name the columns text,label, not nothing"),
        ("a,b\n1,2\n", "not a, b"),
        ("text,label\n" + "x,same\n" * 60, "one label only"),
        ("text,label\n" + "x,a\ny,b\n" * 6, "12 samples"),
    ],
)
def test_what_is_missing_in_a_csv_is_told(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "texts.csv"
    file.write_text(content)
    with pytest.raises(UnusableData, match=words):
        folder.texts(file)


def test_small_pictures_are_seen_whole(tmp_path: Path) -> None:
    assert folder.are_thumbnails(folder.pictures(make_pictures(tmp_path / "small")))
    assert not folder.are_thumbnails(folder.pictures(make_pictures(tmp_path / "large", side=200)))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVSERVE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small network in place of the learned weights, which a test without index cannot have."""
    small = dict(EfficientNetLite.tiny)
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(EfficientNetLite(**small).state_dict(), path)
    monkeypatch.setattr(pretrained, "weights", lambda: path)
    monkeypatch.setattr(finetune, "EARLY", 5)
    monkeypatch.setattr(finetune, "THUMBNAIL", Preprocess.square(64))
    recipe_for = finetune.recipe_for

    def smaller(*arguments: object) -> object:
        recipe = recipe_for(*arguments)  # type: ignore[arg-type]
        labels = recipe.arguments["labels"]
        return replace(recipe, arguments={**small, "labels": labels}, epochs=2)

    monkeypatch.setattr(finetune, "recipe_for", smaller)


@pytest.mark.usefixtures("backbone")
def test_pictures_become_an_artifact_and_a_report(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_pictures(tmp_path / "my_photos")
    store = tmp_path / "store"
    assert cli.main(["train", "--data", str(photos), "--store", str(store)]) == 0
    assert validate(Settings(), store)
    card = json.loads((store / "my_photos" / "1" / "manifest.json").read_text())
    assert card["postprocess"]["labels"] == list(COLOURS)
    assert card["dataset"]["variant"] == "own"
    assert str(tmp_path) not in json.dumps(card)
    assert card["baselines"]
    said = capsys.readouterr().out
    assert "95 % interval" in said
    page = (runs / "my_photos" / "report.html").read_text()
    assert str(runs / "my_photos" / "report.html") in said
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:)', page)
    for label in COLOURS:
        assert f"<h3>{label}: " in page


def test_a_network_from_scratch_and_texts_take_the_same_way(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "STEPS", 0)
    for name in (own.PICTURES, own.TEXTS):
        monkeypatch.setitem(SMALL, name, _small(name))
    monkeypatch.setattr(recipes, "load", SMALL.__getitem__)
    photos = make_pictures(tmp_path / "photos")
    texts = make_texts(tmp_path / "texts.csv")
    store = tmp_path / "store"
    own.make(photos, store, from_scratch=True)
    made = own.make(texts, store)
    assert validate(Settings(), store)
    assert "<h3>sport: " in made.report.read_text()


def make_topics(file: Path, n: int = 300) -> Path:
    """Texts of made-up words, a few of which belong to a topic: easy for a linear model."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefghijklmnop"), 6)) for _ in range(400)]
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["label", "text"])
        for place in range(n):
            own_words = random.choice(words[place % 4 :: 20], 4)
            text = random.permutation([*own_words, *random.choice(words, 16)])
            writer.writerow([f"topic {place % 4}", " ".join(text)])
    return file


def test_few_texts_are_classified_as_well_as_by_a_linear_model(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "STEPS", 100)
    made = own.make(make_topics(tmp_path / "topics.csv"), tmp_path / "store")
    card = json.loads((made.artifact / "manifest.json").read_text())
    (accuracy,) = (m for m in card["metrics"] if m["name"] == "accuracy")
    (baseline,) = card["baselines"]
    assert baseline["value"] > 0.6
    assert accuracy["interval"][1] >= baseline["value"]


SMALL: dict[str, Recipe] = {}


def _small(name: str) -> Recipe:
    recipe = recipes.load(name)
    if recipe.architecture == "all_cnn":
        tiny = {"width": 0.125}
    else:
        tiny = {"rows": 256, "columns": 8, "features": 8, "ngrams": 16384}
    return replace(recipe, arguments={**recipe.arguments, **tiny}, epochs=1)


def test_imagenet_itself_is_not_here(tmp_path: Path) -> None:
    assert len(set(imagenet.CARD.labels)) == 1000
    with pytest.raises(FetchError, match="import efficientnet_lite0"):
        imagenet.load(tmp_path)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / Path(pretrained.MEMBER).name
    path.write_bytes(b"others")
    with pytest.raises(FetchError, match="is not the file of efficientnet-lite0"):
        pretrained.weights(tmp_path)


def test_weights_fill_all_but_what_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source, target = (EfficientNetLite(**EfficientNetLite.tiny) for _ in range(2))
    path = tmp_path / "weights.pth"
    torch.save({f"theirs.{i}": v for i, v in enumerate(source.state_dict().values())}, path)
    before = target.classifier.weight.clone()
    pretrained.fill(target, path, but="classifier")
    assert torch.equal(target.classifier.weight, before)
    assert torch.equal(target.state_dict()["head.0.weight"], source.state_dict()["head.0.weight"])
    pretrained.fill(target, path)
    assert torch.equal(target.classifier.weight, source.classifier.weight)
