"""The container image, run as a careful cluster runs it.

IMAGE names it. Where the engine has no bridge, DOCKER_NETWORK=host runs it on the host's network;
it then listens on loopback only.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e import own_network
from tests.e2e.process import (
    ROOT,
    STORE,
    assert_graceful,
    await_ready,
    free_port,
    goldens,
    predicted,
)

pytestmark = pytest.mark.image

IMAGE = os.environ.get("IMAGE", "convserve:local")
BUDGET = 260_000_000  # bytes over the base image, the models not counted
HARDENED = [
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=512m",
]


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    """A running container and a client of it."""

    name: str
    client: httpx.Client

    def inspect(self, template: str) -> str:
        return docker("inspect", "--format", template, self.name)

    def python(self, code: str) -> str:
        return docker("exec", self.name, "python", "-c", code)

    def await_healthy(self) -> None:
        """Return once the image's own HEALTHCHECK says so."""
        end = time.monotonic() + 60
        while (health := self.inspect("{{.State.Health.Status}}")) != "healthy":
            assert time.monotonic() < end, f"{health}\n{docker('logs', self.name)}"
            assert self.inspect("{{.State.Running}}") == "true", docker("logs", self.name)
            time.sleep(0.2)

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status."""
        docker("kill", "--signal", "TERM", self.name)
        return int(docker("wait", self.name))


def network(port: int) -> list[str]:
    if os.environ.get("DOCKER_NETWORK") == "host":
        listen = ["--env=CONVSERVE_HOST=127.0.0.1", f"--env=CONVSERVE_PORT={port}"]
        return ["--network=host", *listen]
    return [f"--publish=127.0.0.1:{port}:8000"]


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """Yield the image, hardened and healthy, with the shipped store mounted over its own."""
    port = free_port()
    store = f"--volume={STORE}:/store:ro"
    name = docker("run", "--detach", *HARDENED, *network(port), store, IMAGE)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
    try:
        with client:
            yield Container(name, client)
    finally:
        docker("rm", "--force", name)


def test_it_becomes_healthy_and_reproduces_the_goldens(container: Container) -> None:
    container.await_healthy()
    for golden in goldens():
        assert predicted(container.client, golden) in golden.answers


def test_it_is_not_root_and_cannot_write(container: Container) -> None:
    assert container.python("import os; print(os.getuid())") == "10001"
    probe = (
        "import os; print([d for d in ('/', '/store', '/opt/convserve') if os.access(d, os.W_OK)])"
    )
    assert container.python(probe) == "[]"


def test_it_holds_neither_torch_nor_onnx_nor_a_secret(container: Container) -> None:
    find = "import importlib.util as u; print([m for m in ('torch', 'onnx') if u.find_spec(m)])"
    assert container.python(find) == "[]"
    assert container.python("import os; print(os.path.exists('/etc/pip.conf'))") == "False"


def test_it_tells_what_is_inside(container: Container) -> None:
    bill = json.loads(docker("exec", container.name, "cat", "/opt/convserve/sbom.cdx.json"))
    listed = {component["name"].lower() for component in bill["components"]}
    assert {"convserve", "onnxruntime", "fastapi", "numpy"} <= listed
    labels = json.loads(container.inspect("{{json .Config.Labels}}"))
    names = ("title", "version", "revision", "licenses", "base.name")
    assert {f"org.opencontainers.image.{name}" for name in names} <= labels.keys()


def test_it_keeps_to_its_budget_over_its_base() -> None:
    size = (
        "import os; print(sum(os.lstat(os.path.join(d, f)).st_size "
        "for d, _, files in os.walk('/opt/convserve') for f in files))"
    )
    python = ["--rm", "--network=none", "--entrypoint=python", IMAGE, "-c"]
    assert int(docker("run", *python, size)) <= BUDGET


def test_two_builds_of_a_commit_have_the_same_layers() -> None:
    def built(tag: str, **further: str) -> str:
        command, environment = [str(ROOT / "docker" / "build.sh"), tag], {**os.environ, **further}
        subprocess.run(command, env=environment, capture_output=True, check=True)
        return docker("inspect", "--format", "{{json .RootFS.Layers}}", tag)

    assert built("convserve:once") == built("convserve:again", OPTIONS="--no-cache")


def test_it_carries_a_store_of_its_own() -> None:
    listed = docker("run", "--rm", "--network=none", "--entrypoint=ls", IMAGE, "/store")
    assert {golden.model for golden in goldens()} <= set(listed.split())


def pip_settings() -> list[str]:
    """What this host's pip needs to reach its index, as in docker/build.sh, for a run."""
    files = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
    return [f"--volume={file}:{file}:ro" for file in files if Path(file).exists()]


def ours(command: str, *options: str) -> str:
    """A `docker run` of the README, of the image under test and with these options."""
    words = shlex.join(options)
    return command.replace("docker run", f"docker run {words}").replace("convserve:local", IMAGE)


def test_an_onnx_file_is_answered_within_a_minute(tmp_path: Path) -> None:
    """By the README's commands; the time to install is told apart."""
    _, _, ask, install, begin, serve = own_network.commands("Your own network")
    own_network.bring(tmp_path)
    nowhere = tmp_path / "no programs"
    host = ["--network=host"] if os.environ.get("DOCKER_NETWORK") == "host" else []
    started = time.monotonic()
    own_network.run(ours(install, *host, *pip_settings()), tmp_path, nowhere)
    installed = time.monotonic()
    own_network.run(ours(begin), tmp_path, nowhere)
    port = free_port()
    served = ours(serve.replace("-p 8000:8000 ", ""), "--detach", *network(port))
    name = own_network.run(served, tmp_path, nowhere).strip()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await_ready(client)
        answer = own_network.run(own_network.at_port(ask, port), tmp_path, nowhere)
    finally:
        docker("rm", "--force", name)
    taken = time.monotonic() - installed
    print(f"installed in {installed - started:.1f} s; from the file to the answer {taken:.1f} s")
    assert own_network.label(answer) == own_network.LABEL
    assert taken < 60


def test_sigterm_during_a_request_answers_it_and_exits_with_zero(container: Container) -> None:
    container.await_healthy()
    assert_graceful(container.client, container.terminate)
    assert container.inspect("{{.State.OOMKilled}}") == "false"
