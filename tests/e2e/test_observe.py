"""Prometheus, started for real: what the dashboard shows, what fires, what the runbook finds.

A fault is injected into a service of its own; the alerts' expressions and first queries, asked of
Prometheus, and the log must tell which it is. Ranges are as in production: a rate over five
minutes answers from the seconds that there are.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import yaml

from tests.artifacts import IMAGE, LENGTH, ROUNDS, SLOW, TEXT, build_text, text_graph
from tests.e2e.process import ROOT, Server, await_ready, free_port, serving
from tests.observability import alerts, as_values, dashboard_queries, recorded

pytestmark = pytest.mark.observe
AT_TEXT, AT_IMAGE = f"/v1/models/{TEXT}/predict", f"/v1/models/{IMAGE}/predict"
HARMLESS = {"text": "goal"}
Series = list[tuple[dict[str, str], float]]
Ask = Callable[[httpx.Client], object]


@dataclass
class Prometheus:
    """A Prometheus that scrapes one service, and that service's log."""

    client: httpx.Client
    log: Path

    def query(self, expression: str) -> Series:
        """Ask now; each series with its labels and value."""
        expression = expression.replace("$__rate_interval", "1m")
        answer = self.client.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, answer.text
        result = answer.json()["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """The alerts whose condition holds now, with the labels of its series (`for` aside)."""
        found = {name: self.query(rule["expr"]) for name, rule in alerts().items()}
        return {name: [labels for labels, _ in series] for name, series in found.items() if series}

    def first_look(self, alert: str) -> Series:
        """What the runbook's first query shows."""
        return self.query(alerts()[alert]["annotations"]["query"])

    def await_alert(self, name: str, seconds: float = 60) -> dict[str, list[dict[str, str]]]:
        """Return what fires once `name` does."""
        end = time.monotonic() + seconds
        while name not in (firing := self.firing()):
            assert time.monotonic() < end, f"{name} does not fire; these do: {firing}"
            time.sleep(0.5)
        return firing

    def lines(self) -> list[dict[str, Any]]:
        """The service's log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]


@contextmanager
def prometheus(target: httpx.URL, log: Path, directory: Path) -> Iterator[Prometheus]:
    """Run Prometheus with the project's rules, every second, until the block ends."""
    config = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"{target.host}:{target.port}"]}]
    directory.mkdir()
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "docker" / "prometheus" / "rules.yml", directory)
    command = [shutil.which("prometheus") or "prometheus", "--config.file=prometheus.yml"]
    url = f"127.0.0.1:{free_port()}"
    flags = ["--storage.tsdb.path=data", f"--web.listen-address={url}", "--log.level=warn"]
    with (
        (directory / "log").open("wb") as output,
        httpx.Client(base_url=f"http://{url}", timeout=30, trust_env=False) as client,
        subprocess.Popen([*command, *flags], cwd=directory, stdout=output, stderr=output) as it,
    ):
        try:
            _await_first_scrapes(client)
            yield Prometheus(client, log)
        finally:
            it.terminate()
            it.wait(timeout=30)


def _await_first_scrapes(client: httpx.Client, seconds: float = 60) -> None:
    """Wait until rates exist: two scrapes."""
    end = time.monotonic() + seconds
    params = {"query": "count_over_time(up[1m]) >= 2"}
    while time.monotonic() < end:
        try:
            answer = client.get("/api/v1/query", params=params)
            if answer.status_code == 200 and answer.json()["data"]["result"]:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError("Prometheus has scraped nothing")


@contextmanager
def asked(client: httpx.Client, ask: Ask, users: int = 1) -> Iterator[None]:
    """So many users ask one after the other until the block ends."""
    stop = Event()

    def work() -> None:
        while not stop.is_set():
            ask(client)

    with ThreadPoolExecutor(users) as pool:
        working = [pool.submit(work) for _ in range(users)]
        try:
            yield
        finally:
            stop.set()
    for user in working:
        user.result()


@contextmanager
def observed(
    store: Path,
    tmp_path: Path,
    *,
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = ("-m", "convserve.cli"),
) -> Iterator[tuple[Server, Prometheus]]:
    """A service that is ready, and a Prometheus that scrapes it."""
    log = tmp_path / "service.log"
    environment = {"CONVSERVE_STORE": str(store), "CONVSERVE_CORES": "1", **(settings or {})}
    with ExitStack() as stack:
        process = [sys.executable, *command, "serve"]
        run = serving(process, cwd=tmp_path, log=log, environment=environment)
        server = stack.enter_context(run)
        await_ready(server.client)
        target = server.client.base_url
        yield server, stack.enter_context(prometheus(target, log, tmp_path / "prometheus"))


def usual(client: httpx.Client) -> None:
    """One text, one picture, each answered."""
    picture = (ROOT / "models/store/all_cnn_cifar10/1/samples/cat.png").read_bytes()
    assert client.post(AT_TEXT, json=HARMLESS).status_code == 200
    image = client.post(AT_IMAGE, content=picture, headers={"Content-Type": "image/png"})
    assert image.status_code == 200


def test_every_query_of_a_loaded_service_has_an_answer_and_nothing_fires(
    pristine_store: Path, tmp_path: Path
) -> None:
    with (
        observed(pristine_store, tmp_path) as (server, operator),
        asked(server.client, usual),
    ):
        end = time.monotonic() + 60
        unanswered = ["all"]
        while unanswered and time.monotonic() < end:
            time.sleep(0.5)
            asked_for = {f"{title}: {query}": query for title, query in dashboard_queries()}
            asked_for |= {name: name for name in recorded()}
            asked_for |= {name: as_values(rule["expr"]) for name, rule in alerts().items()}
            unanswered = [name for name, query in asked_for.items() if not operator.query(query)]
        assert unanswered == []
        assert operator.firing() == {}
        healthy = operator.client.get("/api/v1/rules").json()["data"]["groups"]
        assert {rule["health"] for group in healthy for rule in group["rules"]} == {"ok"}


def test_who_is_down_is_told(pristine_store: Path, tmp_path: Path) -> None:
    with observed(pristine_store, tmp_path) as (server, operator):
        server.process.kill()
        assert operator.await_alert("ConvserveDown").keys() == {"ConvserveDown"}


# The kernel's counters are a file, which the test writes: a stricter quota needs a cgroup.
THROTTLED = """
import functools, os, pathlib
from convserve import cli, loading
from convserve.engine import cpu
root = pathlib.Path(os.environ["FAKE_ROOT"])
loading.throttling = functools.partial(cpu.throttling, root)
loading.watch_throttling = functools.partial(cpu.watch_throttling, 0.5, loading.throttling)
raise SystemExit(cli.main())
"""


def test_fault_1_cpu_throttling(pristine_store: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    stat = root / "sys" / "fs" / "cgroup" / "cpu.stat"
    stat.parent.mkdir(parents=True)
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text("0::/\n")
    periods = iter(range(10, 10**9, 10))

    def ask(client: httpx.Client) -> None:
        n = next(periods)
        part = stat.with_suffix(".new")
        part.write_text(f"nr_periods {n}\nnr_throttled {n // 2}\nthrottled_usec {n * 20_000}\n")
        part.replace(stat)
        usual(client)

    faked = {"FAKE_ROOT": str(root)}
    with (
        observed(pristine_store, tmp_path, settings=faked, command=("-c", THROTTLED)) as (
            server,
            operator,
        ),
        asked(server.client, ask),
    ):
        assert operator.await_alert("ConvserveCpuThrottled").keys() == {"ConvserveCpuThrottled"}
        ((_, seconds_per_second),) = operator.first_look("ConvserveCpuThrottled")
        assert seconds_per_second > 0
        said = [line["message"] for line in operator.lines()]
    assert any("the CPU quota held the service up in 50 %" in message for message in said)


def test_fault_2_full_queue(pristine_store: Path, tmp_path: Path) -> None:
    many = {"instances": [HARMLESS["text"]] * 64}

    def ask(client: httpx.Client) -> None:
        client.post(AT_TEXT, json=many)
        time.sleep(0.01)

    narrow = {"CONVSERVE_QUEUE_CAPACITY": "4"}
    with (
        observed(pristine_store, tmp_path, settings=narrow) as (server, operator),
        asked(server.client, ask),
    ):
        firing = operator.await_alert("ConvserveRefusing")
        assert firing.keys() == {"ConvserveRefusing"}
        assert {labels["model"] for labels in firing["ConvserveRefusing"]} == {TEXT}
        reasons = {labels["reason"] for labels, _ in operator.first_look("ConvserveRefusing")}
        assert reasons == {"queue_full"}
        ((_, bytes_used),) = operator.query("convserve:in_flight:used_ratio")
        assert bytes_used < 0.5  # by the runbook: hence it is the queue, not the bytes


def test_fault_3_corrupt_version(store: Path, tmp_path: Path) -> None:
    with (
        observed(store, tmp_path, settings={"CONVSERVE_POLL_SECONDS": "0.2"}) as (server, operator),
        asked(server.client, usual),
    ):
        graph = build_text(store, "2") / "model.onnx"
        graph.write_bytes(graph.read_bytes()[:-100])
        assert operator.await_alert("ConvserveModelFailed").keys() == {"ConvserveModelFailed"}
        ((labels, _),) = operator.first_look("ConvserveModelFailed")
        assert (labels["model"], labels["version"]) == (TEXT, "2")
        card = server.client.get(f"/v1/models/{TEXT}").json()
        assert {entry["version"]: entry["state"] for entry in card["versions"]}["1"] == "ready"
    assert any(f"{TEXT}/2 is not served" in line["message"] for line in operator.lines())


def test_fault_4_memory_limit(store: Path, tmp_path: Path) -> None:
    little = {"CONVSERVE_MODELS": IMAGE, "CONVSERVE_MEMORY_BUDGET_BYTES": "1000000"}

    def ask(client: httpx.Client) -> None:
        assert client.post(AT_TEXT, json=HARMLESS).status_code == 503
        time.sleep(0.05)

    with (
        observed(store, tmp_path, settings=little) as (server, operator),
        asked(server.client, ask),
    ):
        firing = operator.await_alert("ConvserveNoRoom")
        assert firing.keys() == {"ConvserveNoRoom"}
        assert {labels["model"] for labels in firing["ConvserveNoRoom"]} == {TEXT}
        ((_, of_the_budget),) = operator.first_look("ConvserveNoRoom")
        assert of_the_budget > 1
        lines = operator.lines()
    assert any("no room for about" in line["message"] for line in lines)
    assert any(line["message"] == "failed" and line["status"] == 503 for line in lines)


def test_fault_5_slow_model(store: Path, tmp_path: Path) -> None:
    (store / TEXT / "1").rename(tmp_path / "quick")
    build_text(store, graph=text_graph(rounds=5 * ROUNDS))  # slow on a fast machine, too

    def ask(client: httpx.Client) -> None:
        assert client.post(AT_TEXT, json={"text": SLOW * LENGTH}).status_code == 200

    with (
        observed(store, tmp_path, settings={"CONVSERVE_LATE_MS": "250"}) as (
            server,
            operator,
        ),
        asked(server.client, ask),
    ):
        firing = operator.await_alert("ConvserveModelSlow")
        assert firing.keys() == {"ConvserveModelSlow"}
        slow = {
            labels["model"]
            for labels, value in operator.first_look("ConvserveModelSlow")
            if value > 0.25
        }
        assert slow == {TEXT}
        late = [line for line in operator.lines() if line["message"] == "late"]
    assert {line["model"] for line in late} == {TEXT}
    assert all(max(line["spans"], key=line["spans"].get) == "inference" for line in late)
