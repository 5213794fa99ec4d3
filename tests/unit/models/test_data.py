"""Both layouts of each dataset, from tiny files in the real formats."""

import csv
import gzip
import io
import lzma
import struct
import tarfile
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convserve_models import data
from convserve_models.data import (
    FetchError,
    Split,
    ag_news,
    an4,
    cifar10,
    dbpedia14k,
    fashion_mnist,
    fsdd,
    imdb,
)
from convserve_models.data.fetch import Remote, sha256_of

RANDOM = np.random.default_rng(0)


def test_cards_are_complete() -> None:
    for name in data.DATASETS:
        card = data.card(name)
        assert card.name == name
        assert card.licence
        assert card.source.startswith("http")
        assert len(set(card.labels)) == len(card.labels) != 1  # none: texts to learn to read from


def test_unknown_dataset_lists_the_known() -> None:
    with pytest.raises(KeyError, match="cifar10"):
        data.load("cifar11")


def test_cifar10_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RANDOM.integers(0, 256, (6, 2, 32, 32, 3), np.uint8)
    labels = RANDOM.integers(0, 10, (6, 2), np.uint8)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    path = tmp_path / "cifar-10-binary.tar.gz"
    members = {
        f"cifar-10-batches-bin/{name}": np.concatenate(
            [classes[:, None], pictures.transpose(0, 3, 1, 2).reshape(2, -1)], 1
        ).tobytes()
        for name, pictures, classes in zip(names, images, labels, strict=True)
    }
    _archive(path, members)
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


def test_fashion_mnist_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RANDOM.integers(0, 256, (2, 5, 28, 28), np.uint8)
    labels = RANDOM.integers(0, 10, (2, 5)).astype(np.uint8)
    for split, pictures, classes in zip(("TRAIN", "TEST"), images, labels, strict=True):
        remotes = getattr(fashion_mnist, split)
        contents = (b"\0" * 16 + pictures.tobytes(), b"\0" * 8 + classes.tobytes())
        for remote, content in zip(remotes, contents, strict=True):
            (tmp_path / remote.name).write_bytes(gzip.compress(content))
        mine = tuple(_local(tmp_path / remote.name) for remote in remotes)
        monkeypatch.setattr(fashion_mnist, split, mine)
    dataset = fashion_mnist.load(tmp_path)
    assert dataset.variant == "official"
    for channel in range(3):
        np.testing.assert_array_equal(np.asarray(dataset.train.inputs)[..., channel], images[0])
    np.testing.assert_array_equal(dataset.test.labels, labels[1])


def test_fashion_mnist_packed(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 256, (2, 5, 28, 28), np.uint8)
    labels = RANDOM.integers(0, 10, (2, 5)).astype(np.uint8)
    for name, pictures, classes in zip(("train", "test"), images, labels, strict=True):
        blob = np.frombuffer(lzma.compress(pictures.tobytes()), np.uint8)
        np.savez(tmp_path / f"{name}.npz", images_xz=blob, shape=pictures.shape, labels=classes)
    dataset = fashion_mnist.load(tmp_path)
    assert dataset.variant == "packed"
    np.testing.assert_array_equal(np.asarray(dataset.test.inputs)[..., 1], images[1])
    np.testing.assert_array_equal(dataset.train.labels, labels[0])


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
    _pack(tmp_path, train="1\tÜber all\tsrc\n0\tpeace\tsrc\n", test="3\tchips\n")
    dataset = ag_news.load(tmp_path)
    assert dataset.variant == "packed"
    assert dataset.train.inputs == ["Über all", "peace"]
    assert dataset.test.labels.tolist() == [3]


def test_imdb_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {
        "aclImdb/README": b"read me",
        "aclImdb/test/urls_pos.txt": b"http://",
        "aclImdb/test/neg/0_2.txt": "zäh<br />".encode(),
        "aclImdb/train/unsup/0_0.txt": b"no label",
        "aclImdb/train/pos/0_9.txt": b"good\nfilm",
        "aclImdb/train/neg/1_1.txt": b"bad film",
    }
    _archive(tmp_path / "aclImdb_v1.tar.gz", members)
    _trust(monkeypatch, imdb, "ARCHIVE", tmp_path / "aclImdb_v1.tar.gz")
    dataset = imdb.load(tmp_path)
    assert dataset.variant == "official"
    assert dataset.train.inputs == ["good\nfilm", "bad film"]
    assert dataset.train.labels.tolist() == [1, 0]
    assert dataset.test.inputs == ["zäh<br />"]
    assert dataset.test.labels.tolist() == [0]


def test_imdb_packed(tmp_path: Path) -> None:
    _pack(tmp_path, train="1\t9\t0_9\tgood film\n0\t1\t1_1\tbad\n", test="0\t3\t7_3\tzäh\n")
    dataset = imdb.load(tmp_path)
    assert dataset.variant == "packed"
    assert dataset.train.inputs == ["good film", "bad"]
    assert dataset.train.labels.tolist() == [1, 0]
    assert dataset.test.inputs == ["zäh"]


def test_dbpedia14k_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {
        "dbpedia_csv/train.csv": b'1,"E. D. Ltd"," Abbott, ""of"" Farnham"\n14,"X"," a book"\n',
        "dbpedia_csv/test.csv": '11,"Öxalis"," a plant"\n'.encode(),
    }
    _archive(tmp_path / "dbpedia_csv.tgz", members)
    _trust(monkeypatch, dbpedia14k, "ARCHIVE", tmp_path / "dbpedia_csv.tgz")
    dataset = dbpedia14k.load(tmp_path)
    assert dataset.variant == "official"
    assert dataset.train.inputs == ['E. D. Ltd  Abbott, "of" Farnham', "X  a book"]
    assert [dataset.card.labels[i] for i in dataset.train.labels] == ["Company", "WrittenWork"]
    assert dataset.test.inputs == ["Öxalis  a plant"]
    assert dataset.card.labels[dataset.test.labels[0]] == "Plant"


def test_dbpedia14k_packed(tmp_path: Path) -> None:
    _pack(tmp_path, train="13\ta book .\n0\ta firm .\n", test="10\ta plant .\n")
    dataset = dbpedia14k.load(tmp_path)
    assert dataset.variant == "packed"
    assert dataset.train.inputs == ["a book .", "a firm ."]
    assert [dataset.card.labels[i] for i in dataset.train.labels] == ["WrittenWork", "Company"]
    assert dataset.test.inputs == ["a plant ."]


@pytest.mark.parametrize("module", [cifar10, imdb, dbpedia14k])
def test_a_swapped_archive_is_refused(tmp_path: Path, module: ModuleType) -> None:
    (tmp_path / module.ARCHIVE.name).write_bytes(b"something else")
    with pytest.raises(FetchError, match="SHA-256"):
        module.load(tmp_path)


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


def _archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _pack(folder: Path, **parts: str) -> None:
    for name, lines in parts.items():
        path = folder / f"{name}.tsv.xz"
        with lzma.open(path, "wt", encoding="utf-8", newline="\n") as file:
            file.write(lines)


def _trust(monkeypatch: pytest.MonkeyPatch, module: object, name: str, path: Path) -> None:
    """Let the dataset expect this file's checksum instead of the published one."""
    monkeypatch.setattr(module, name, _local(path))


def _local(path: Path) -> Remote:
    return Remote(f"http://127.0.0.1:9/{path.name}", sha256_of(path))


def _clips(takes: range) -> list[fsdd.Clip]:
    return [
        fsdd.Clip(RANDOM.integers(-999, 999, 300, np.int16), digit, speaker, take)
        for speaker in fsdd.SPEAKERS
        for digit in range(10)
        for take in takes
    ]


@pytest.fixture
def few_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {takes: (6, seed) for takes, (_, seed) in fsdd.STRINGS.items()}
    monkeypatch.setattr(fsdd, "STRINGS", few)


def test_fsdd_layouts_give_the_same_strings(tmp_path: Path, few_strings: None) -> None:
    takes = {"train": range(5, 12), "test": range(5)}
    clips = {part: _clips(takes[part]) for part in takes}
    (tmp_path / "official" / "recordings").mkdir(parents=True)
    for part, group in clips.items():
        for clip in group:
            name = f"{clip.digit}_{clip.speaker}_{clip.take}.wav"
            with wave.open(str(tmp_path / "official" / "recordings" / name), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(fsdd.RATE)
                file.writeframes(clip.samples.astype("<i2").tobytes())
        pcm = np.concatenate([clip.samples for clip in group])
        planes = np.diff(pcm, prepend=np.int16(0)).astype("<i2").view(np.uint8).reshape(-1, 2).T
        np.savez(
            tmp_path / f"{part}.npz",
            pcm_xz=np.frombuffer(lzma.compress(planes.tobytes()), np.uint8),
            offsets=np.cumsum([0, *(len(clip.samples) for clip in group)]),
            digit=np.array([clip.digit for clip in group], np.uint8),
            speaker=np.array([fsdd.SPEAKERS.index(clip.speaker) for clip in group], np.uint8),
            take=np.array([clip.take for clip in group], np.uint8),
        )
    packed, official = fsdd.load(tmp_path), fsdd.load(tmp_path / "official")
    assert (packed.variant, official.variant) == ("packed", "official")
    for part in ("train", "test", "held_out"):
        assert len(getattr(packed, part)) == 6
    assert packed.test.digest() != packed.train.digest()
    texts = {" ".join(fsdd.DIGITS[d] for d in range(10))}
    assert set("".join(texts)) == set(fsdd.CARD.labels)


def test_fsdd_strings_are_what_they_say(few_strings: None) -> None:
    """Each digit's clip is a constant level: the levels of a string spell its text."""
    clips = [
        fsdd.Clip(np.full(400, 1000 * (digit + 1), np.int16), digit, speaker, 0)
        for speaker in fsdd.SPEAKERS
        for digit in range(10)
    ]
    split = fsdd.strings(clips, fsdd.TEST)
    for sound, row in zip(split.inputs, split.labels, strict=True):
        text = "".join(fsdd.CARD.labels[letter - 1] for letter in row if letter)
        levels = np.round(sound / 1000).astype(int)
        starts = np.flatnonzero((levels[1:] > 0) & (levels[:-1] == 0)) + 1
        said = [fsdd.DIGITS[levels[start + 50] - 1] for start in starts]
        assert text == " ".join(said)
        assert 1 <= len(said) <= fsdd.LONGEST
    again = fsdd.strings(clips, fsdd.TEST)
    assert again.digest() == split.digest()


def test_fsdd_without_a_speaker_tests_that_one_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each speaker's clips are a constant level: the levels of a string tell who speaks."""
    levels = {speaker: 1000 * (place + 1) for place, speaker in enumerate(fsdd.SPEAKERS)}
    clips = [
        fsdd.Clip(np.full(900, level, np.int16), digit, speaker, take)
        for speaker, level in levels.items()
        for digit in range(10)
        for take in (0, 5, 10)
    ]
    monkeypatch.setattr(fsdd, "_clips", lambda folder: (clips, "packed"))
    found = fsdd.without("lucas", tmp_path)
    assert found.held_out is not None
    assert len(found.test) == 500
    assert _voices(found.test) == {levels["lucas"]}
    for split in (found.train, found.held_out):
        assert _voices(split) == set(levels.values()) - {levels["lucas"]}


def _voices(split: Split) -> set[int]:
    return {round(int(np.median(sound[sound > 700])), -3) for sound in split.inputs}


def test_fsdd_splits_share_no_clip() -> None:
    assert len({*fsdd.TEST, *fsdd.HELD_OUT, *fsdd.TRAIN}) == 50
    assert sum(len(takes) for takes in fsdd.STRINGS) == 50


def test_a_dataset_with_its_own_held_out_split_keeps_it() -> None:
    parts = [Split([str(n)], np.array([n])) for n in range(3)]
    dataset = data.Dataset(data.card("fsdd"), "packed", *parts)
    assert dataset.divide(1, seed=0) == (parts[0], parts[2])


def test_an4_layouts_agree(tmp_path: Path) -> None:
    texts = {"train": ["YES", "U M SIX", "GO"], "test": ["A B"]}
    etc = tmp_path / "official" / "an4" / "etc"
    etc.mkdir(parents=True)
    for part, lines in texts.items():
        cepstra = [
            RANDOM.standard_normal((5 + n, 13)).astype(np.float16) for n in range(len(lines))
        ]
        names = [f"an{n}-{part}-b" for n in range(len(lines))]
        (etc / f"an4_{part}.fileids").write_text("".join(f"an4_clstk/fash/{n}\n" for n in names))
        (etc / f"an4_{part}.transcription").write_text(
            "".join(
                f"{text} ({name})\n" if part == "train" else f"<s> {text} </s> ({name})\n"
                for text, name in zip(lines, names, strict=True)
            )
        )
        for name, frames in zip(names, cepstra, strict=True):
            path = tmp_path / "official" / "an4" / "feat" / "an4_clstk" / "fash" / f"{name}.mfc"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(struct.pack(">i", frames.size) + frames.astype(">f4").tobytes())
        np.savez(
            tmp_path / f"{part}.npz",
            feat=np.concatenate(cepstra),
            offsets=np.cumsum([0, *map(len, cepstra)]),
            text=np.array(lines),
        )
        if part == "train":
            continue
    packed, official = an4.load(tmp_path), an4.load(tmp_path / "official")
    assert (packed.variant, official.variant) == ("packed", "official")
    for part in ("train", "test"):
        assert getattr(packed, part).digest() == getattr(official, part).digest()
    assert packed.test.labels.tolist() == [[2, 1, 3]]


@pytest.mark.parametrize("name", ["fsdd", "an4_mfcc"])
def test_speech_that_is_not_there_is_told_where_to_get(name: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="clone https://github"):
        data.load(name, tmp_path)
