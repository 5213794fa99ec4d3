"""The wheel, installed into an empty environment, serves from another directory."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.e2e.process import ROOT, STORE, await_ready, goldens, predicted, serving

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment that holds the locked serve group and the wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", directory)
    (wheel,) = directory.glob("*.whl")
    venv.create(directory / "env", with_pip=True)
    python = directory / "env" / "bin" / "python"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
    run(*install, "--require-hashes", "-r", ROOT / "requirements" / "serve.txt")
    run(*install, wheel)
    run(python, "-m", "pip", "check")
    return python


def test_the_environment_holds_no_torch(python: Path) -> None:
    listed = run(python, "-m", "pip", "list", "--format", "freeze").lower().splitlines()
    assert not {"torch", "onnx"} & {line.partition("==")[0] for line in listed}


def test_it_validates_the_store_from_another_directory(python: Path, tmp_path: Path) -> None:
    run(python.with_name("convserve"), "validate", STORE, cwd=tmp_path)


def test_it_answers_from_another_directory(python: Path, tmp_path: Path) -> None:
    command = [str(python.with_name("convserve")), "serve", "--store", str(STORE)]
    with serving(command, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        for golden in goldens():
            assert predicted(server.client, golden) in golden.answers
