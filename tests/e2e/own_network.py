"""The README's way from an ONNX file to its first answer, as its commands stand there."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

from tests.e2e.process import ROOT, await_ready, serving
from tests.exports import Export, jpeg, node

README = (ROOT / "README.md").read_text(encoding="utf-8")
LABEL = "cat"
"""Of the photo that `bring` brings."""


def commands(section: str) -> list[str]:
    """Return the lines of a section's shell blocks."""
    (text,) = re.findall(rf"^## {section}$(.*?)^## ", README, flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```sh$(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


def bring(folder: Path) -> None:
    """What an engineer comes with: a network of 224×224 pixels, its labels, a photo."""
    tiles = node("AveragePool", ["x"], ["tiles"], kernel_shape=[8, 8], strides=[8, 8])
    mean = node("ReduceMean", ["tiles"], ["features"], axes=[2, 3], keepdims=0)
    network = Export(shape=("n", 3, 224, 224), before=[tiles, mean]).content()
    (folder / "net.onnx").write_bytes(network)
    (folder / "labels.txt").write_text(f"{LABEL}\ndog\nship\n")
    (folder / "photo.jpg").write_bytes(jpeg())


def run(command: str, folder: Path, path: Path) -> str:
    """Return what a command prints, run in `folder` with the programs of `path` first."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def first_answer(folder: Path, path: Path) -> str:
    """Import, serve and ask with the programs in `path`; return the label."""
    begin, serve, ask, *_ = commands("Your own network")
    run(begin, folder, path)
    program, *words = shlex.split(serve)
    with serving([str(path / program), *words], cwd=folder, log=folder / "log") as server:
        await_ready(server.client)
        return label(run(at_port(ask, server.client.base_url.port), folder, path))


def at_port(ask: str, port: int | None) -> str:
    """The README's `curl`, of a server on another port."""
    return ask.replace("127.0.0.1:8000", f"127.0.0.1:{port}") + " --silent --noproxy '*'"


def label(answer: str) -> str:
    found: str = json.loads(answer)["predictions"][0]["label"]
    return found
