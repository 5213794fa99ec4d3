"""DBpedia ontology: abstracts of encyclopedia articles in 14 classes (Zhang, Zhao & LeCun, 2015).

Official: the published CSV files, 560,000 / 70,000, titles put before the texts. Packed:
`train.tsv.xz`, `test.tsv.xz`, a balanced sample of 11,200 / 1,400 of the official *training* texts,
without titles and with spaces around punctuation; its figures are no match for published ones.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from convserve_models.data import Card, Dataset, Split
from convserve_models.data.fetch import Remote, fetch
from convserve_models.data.texts import packed, published

CARD = Card(
    name="dbpedia14k",
    source="https://course.fast.ai/datasets#nlp",
    licence="CC BY-SA and GFDL, as the dataset's readme says",
    labels=("Company", "EducationalInstitution", "Artist", "Athlete", "OfficeHolder",
            "MeanOfTransportation", "Building", "NaturalPlace", "Village", "Animal", "Plant",
            "Album", "Film", "WrittenWork"),
)  # fmt: skip
ARCHIVE = Remote(
    "https://s3.amazonaws.com/fast-ai-nlp/dbpedia_csv.tgz",
    "42db5221ddedddb673a4cabcc5f3a7d869714c878bcfe4ba94b29d14aa38e417",
)
_TEXT = 1


def load(folder: Path) -> Dataset:
    """Read the packed layout if it is in `folder`, else the official archive."""
    if (folder / "train.tsv.xz").exists():
        splits = [packed(folder / f"{part}.tsv.xz", _TEXT) for part in ("train", "test")]
        return Dataset(CARD, "packed", *splits)
    with tarfile.open(fetch(ARCHIVE, folder)) as archive:
        return Dataset(CARD, "official", _official(archive, "train"), _official(archive, "test"))


def _official(archive: tarfile.TarFile, part: str) -> Split:
    file = archive.extractfile(f"dbpedia_csv/{part}.csv")
    if file is None:
        raise FileNotFoundError(f"{part}.csv is not in the archive")
    return published(io.TextIOWrapper(file, encoding="utf-8", newline=""))
