"""Both layouts of each dataset, from tiny files in the real formats."""

import csv
import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convserve_models import data
from convserve_models.data import Split, ag_news, cifar10
from convserve_models.data.fetch import FetchError, Remote

RANDOM = np.random.default_rng(0)


def test_cards_are_complete() -> None:
    for name in data.DATASETS:
        card = data.card(name)
        assert card.name == name
        assert card.licence
        assert card.source.startswith("http")
        assert len(set(card.labels)) == len(card.labels) > 1


def test_unknown_dataset_lists_the_known() -> None:
    with pytest.raises(KeyError, match="cifar10"):
        data.load("cifar11")


def test_cifar10_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RANDOM.integers(0, 256, (6, 2, 32, 32, 3), np.uint8)
    labels = RANDOM.integers(0, 10, (6, 2), np.uint8)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, pictures, classes in zip(names, images, labels, strict=True):
            rows = np.concatenate(
                [classes[:, None], pictures.transpose(0, 3, 1, 2).reshape(2, -1)], 1
            )
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = rows.nbytes
            archive.addfile(info, io.BytesIO(rows.tobytes()))
    _trust(monkeypatch, cifar10, "ARCHIVE", path)
    dataset = cifar10.load(tmp_path)
    assert dataset.variant == "official"
    np.testing.assert_array_equal(dataset.train.inputs, images[:5].reshape(10, 32, 32, 3))
    np.testing.assert_array_equal(dataset.test.labels, labels[5])


def test_cifar10_packed(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 256, (80, 32, 32, 3), np.uint8)
    mosaic = images.reshape(2, 40, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(64, 1280, 3)
    file = io.BytesIO()
    Image.fromarray(mosaic).save(file, "webp", lossless=True)
    blob = np.frombuffer(file.getvalue(), np.uint8)
    labels = RANDOM.integers(0, 10, 80).astype(np.uint8)
    for name in (*(f"train_{i}" for i in range(1, 6)), "test"):
        np.savez(
            tmp_path / f"{name}.npz", webp=blob, offsets=np.array([0, len(blob)]), labels=labels
        )
    dataset = cifar10.load(tmp_path)
    assert dataset.variant == "packed"
    np.testing.assert_array_equal(dataset.test.inputs, images)
    assert len(dataset.train) == 400


def test_ag_news_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("3", 'Oil, "black"', "falls\\n"), ("1", "Truce", "signed")]
    for name in ("train", "test"):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
        _trust(monkeypatch, ag_news, name.upper(), tmp_path / f"{name}.csv")
    dataset = ag_news.load(tmp_path)
    assert dataset.test.inputs == ['Oil, "black" falls\\n', "Truce signed"]
    assert dataset.train.labels.tolist() == [2, 0]


def test_ag_news_packed(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "train.tsv.xz", "wt", encoding="utf-8", newline="\n") as file:
        file.write("1\tÜber all\tsrc\n0\tpeace\tsrc\n")
    with lzma.open(tmp_path / "test.tsv.xz", "wt", encoding="utf-8", newline="\n") as file:
        file.write("3\tchips\n")
    dataset = ag_news.load(tmp_path)
    assert dataset.variant == "packed"
    assert dataset.train.inputs == ["Über all", "peace"]
    assert dataset.test.labels.tolist() == [3]


def test_a_swapped_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"something else")
    with pytest.raises(FetchError, match="SHA-256"):
        cifar10.load(tmp_path)


@given(n=st.integers(2, 60), held_out=st.integers(1, 59), seed=st.integers(0, 5))
def test_divide_parts_without_loss_or_overlap(n: int, held_out: int, seed: int) -> None:
    whole = Split([str(i) for i in range(n)], np.arange(n, dtype=np.int64))
    dataset = data.Dataset(data.card("ag_news"), "packed", whole, whole)
    training, kept = dataset.divide(held_out, seed)
    assert sorted([*training.labels, *kept.labels]) == list(range(n))
    assert len(kept) == min(held_out, n)
    assert [int(text) for text in kept.inputs] == kept.labels.tolist()


def test_digest_tells_content_and_order() -> None:
    split = Split(["a", "b"], np.array([0, 1]))
    others = [
        Split(["b", "a"], split.labels),
        Split(["a", "b"], np.array([1, 0])),
        Split(["ab", ""], split.labels),
    ]
    assert split.digest() == Split(["a", "b"], np.array([0, 1])).digest()
    assert split.digest() not in {other.digest() for other in others}


def _trust(monkeypatch: pytest.MonkeyPatch, module: object, name: str, path: Path) -> None:
    """Let the dataset expect this file's checksum instead of the published one."""
    from convserve_models.data.fetch import sha256_of

    monkeypatch.setattr(module, name, Remote(f"http://127.0.0.1:9/{path.name}", sha256_of(path)))
