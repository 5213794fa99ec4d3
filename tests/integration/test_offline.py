"""`convserve predict`: the same answers, without a server."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from convserve.cli import main
from tests.artifacts import IMAGE, IMAGE_LABELS, RESIZED, image_probabilities, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for place in range(70):
        (tmp_path / "in" / "deep" / f"{place:02}.png").write_bytes(picture(10 + place, 20))
    (tmp_path / "in" / ".hidden").write_bytes(b"no picture")
    return tmp_path / "in"


def test_a_folder_becomes_a_table(pristine_store: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    predict = ["predict", "--store", str(pristine_store), "--model", IMAGE, "--top-k", "2"]
    assert main([*predict, str(folder), "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [Path(row["file"]).name for row in rows] == [f"{place:02}.png" for place in range(70)]
    for row in rows:
        expected = image_probabilities(Path(row["file"]).read_bytes())
        assert row["label_1"] == IMAGE_LABELS[int(expected.argmax())]
        assert float(row["probability_1"]) == pytest.approx(expected.max(), abs=RESIZED)
        assert row["label_2"] != row["label_1"]
        assert row["error"] == ""


def test_a_bad_file_has_a_row_of_its_own(
    pristine_store: Path, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (folder / "bad.png").write_bytes(b"no picture")
    predict = ["predict", "--store", str(pristine_store), "--model", IMAGE]
    out = tmp_path / "out.jsonl"
    good, bad, missing = folder / "deep" / "00.png", folder / "bad.png", folder / "missing.png"
    assert main([*predict, "--out", str(out), *map(str, (good, bad, missing))]) == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["file"] for row in rows] == [str(good), str(bad), str(missing)]
    assert rows[0]["label"] in IMAGE_LABELS
    assert "no JPEG" in rows[1]["error"]
    assert "No such file" in rows[2]["error"]
    assert "3 of 3 files, 2 failed" in capsys.readouterr().err


def test_an_unknown_model_is_told(
    pristine_store: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--store", str(pristine_store), "--model", "x", str(folder)]) == 1
    assert "there is no model 'x'" in capsys.readouterr().err


def test_a_reader_who_leaves_early_sees_no_traceback() -> None:
    convserve = shlex.quote(str(Path(sys.executable).with_name("convserve")))
    pipe = f"{convserve} print-config | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}  # 0 if it was done before the reader left
    assert done.stderr == ""
