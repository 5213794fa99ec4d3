"""The README's first commands, as they stand there."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.process import ROOT, STORE, await_ready, serving

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = [str(Path(sys.executable).with_name("convserve")), "serve", "--store", str(STORE)]


def test_the_first_answers_are_within_25_lines_and_right(tmp_path: Path) -> None:
    beginning = "\n".join(README.splitlines()[:25])
    commands = re.findall(r"^curl .*", beginning, flags=re.MULTILINE)
    assert len(commands) == 2
    with serving(COMMAND, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        here = f"127.0.0.1:{server.client.base_url.port}"
        answers = [_run(command.replace("127.0.0.1:8000", here)) for command in commands]
    assert [answer["predictions"][0]["label"] for answer in answers] == ["cat", "Sports"]
    for answer in answers:
        assert set(answer) == {"model", "version", "predictions"}
        assert {"label", "probability", "top", "set"} <= set(answer["predictions"][0])


def test_predicts_without_a_server() -> None:
    (command,) = re.findall(r"`\.venv/serve/bin/(convserve predict [^`]*)`", README)
    words = command.replace("photos/", str(STORE / "all_cnn_cifar10/1/samples")).split()
    words[0] = COMMAND[0]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cat.png" in done.stdout


def _run(command: str) -> dict[str, list[dict[str, object]]]:
    done = subprocess.run(
        ["bash", "-c", f"{command} --silent --noproxy '*'"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return answer
