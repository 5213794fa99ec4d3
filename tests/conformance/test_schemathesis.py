"""Schemathesis asks for all that OpenAPI describes, and for what it excludes."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.artifacts import AUDIO, CEPSTRA, IMAGE, TEXT, build_audio, build_cepstra, echo_graph
from tests.conformance.clients import ENVIRONMENTS, FOREIGN, KEY, address, run
from tests.e2e.process import Server, await_ready, serving
from tests.integration.conftest import command

EXAMPLES = int(os.environ.get("EXAMPLES", "200"))  # of each operation
SETTINGS = {
    "CONVSERVE_MANAGEMENT_KEYS": f"operator={KEY}",
    "CONVSERVE_EXPLAIN_RUNS": "8",
    "CONVSERVE_LOG_LEVEL": "error",
}


@pytest.mark.schemathesis
@pytest.mark.timeout(3600)
def test_every_answer_is_documented(store: Path, tmp_path: Path) -> None:
    build_audio(store)
    build_cepstra(store)
    (store / "spare" / "1").mkdir(parents=True)
    (store / "spare" / "1" / "model.onnx").write_bytes(echo_graph(["FP32"]))
    log = tmp_path / "log"
    with serving(command(store), cwd=tmp_path, log=log, environment=SETTINGS) as server:
        await_ready(server.client)
        report = run(
            ENVIRONMENTS / "schemathesis" / "bin" / "schemathesis",
            *("--config-file", FOREIGN / "schemathesis.toml", "run"),
            f"http://{address(server)}/openapi.json",
            *("--checks", "all", "-n", EXAMPLES, "--no-color", "--generation-database", "none"),
            cwd=tmp_path,
            SCHEMATHESIS_HOOKS="hooks",
            STORE=str(store),
            KEY=KEY,
            PYTHONPATH=str(FOREIGN),
        )
        answered = answers(server)
    print(answered)
    assert "Test cases:" in report
    assert answered[CEPSTRA] > 0
    for model in (IMAGE, TEXT, AUDIO):  # real pictures, texts and sounds were understood
        assert answered[model] >= EXAMPLES


def answers(server: Server) -> Mapping[str, float]:
    """Return how many requests to each model were answered with 200."""
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    return {
        sample.labels["model"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "convserve_requests_total" and sample.labels["status"] == "200"
    }
