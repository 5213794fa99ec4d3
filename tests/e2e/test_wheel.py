"""The wheel, installed into an empty environment, serves from another directory."""

import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from tests.e2e import own_network
from tests.e2e.process import ROOT, STORE, await_ready, goldens, predicted, serving

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", directory)
    (wheel,) = directory.glob("*.whl")
    return wheel


def environment(directory: Path, *requirements: list[str | Path]) -> Path:
    """Return the interpreter of a new environment, after installing these in order."""
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    for words in requirements:
        run(python, "-m", "pip", "install", "--quiet", *words)
    run(python, "-m", "pip", "check")
    return python


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """Return the interpreter of an environment that holds the locked serve group and the wheel."""
    locked: list[str | Path] = ["--require-hashes", "-r", ROOT / "requirements" / "serve.txt"]
    return environment(wheel.parent / "env", locked, [wheel])


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


def test_an_onnx_file_is_answered_within_a_minute(wheel: Path, tmp_path: Path) -> None:
    """With the extra `import` and nothing else; the time to install is told apart."""
    started = time.monotonic()
    python = environment(tmp_path / "env", [f"{wheel}[import]"])
    installed = time.monotonic()
    listed = run(python, "-m", "pip", "list", "--format", "freeze").lower()
    assert "torch==" not in listed
    own_network.bring(tmp_path)
    began = time.monotonic()
    assert own_network.first_answer(tmp_path, python.parent) == own_network.LABEL
    taken = time.monotonic() - began
    print(f"installed in {installed - started:.1f} s; from the file to the answer {taken:.1f} s")
    assert taken < 60
