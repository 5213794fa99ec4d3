"""Schemathesis asks for all that OpenAPI describes, and for what it excludes."""

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.artifacts import AUDIO, IMAGE, TEXT, build_audio, build_cepstra, echo_graph
from tests.conformance.clients import ENVIRONMENTS, FOREIGN, KEY, address, run
from tests.e2e.process import await_ready, serving
from tests.integration.conftest import command

EXAMPLES = int(os.environ.get("EXAMPLES") or "200")  # of each operation
SEED = ("--seed", os.environ["SEED"]) if os.environ.get("SEED") else ()
MEDIA = "/(predict|explain|infer)$|^/predictions/"
WELL_FORMED = ("--mode", "positive", "--phases", "fuzzing", "--include-path-regex", MEDIA)
REAL = (IMAGE, TEXT, AUDIO, "infer application/json", "infer application/octet-stream")
"""What must have been understood so often: real pictures, texts, sounds and tensors."""
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
    log, notes = tmp_path / "log", tmp_path / "understood"
    with serving(command(store), cwd=tmp_path, log=log, environment=SETTINGS) as server:
        await_ready(server.client)
        for examples, options in ((EXAMPLES, ()), (2 * EXAMPLES, WELL_FORMED)):
            run(
                ENVIRONMENTS / "schemathesis" / "bin" / "schemathesis",
                *("--config-file", FOREIGN / "schemathesis.toml", "run"),
                f"http://{address(server)}/openapi.json",
                *("--checks", "all", "-n", examples, *SEED, *options),
                *("--no-color", "--generation-database", "none"),
                cwd=tmp_path,
                SCHEMATHESIS_HOOKS="hooks",
                STORE=str(store),
                UNDERSTOOD=str(notes),
                KEY=KEY,
                PYTHONPATH=str(FOREIGN),
            )
    print(understood := Counter(notes.read_text().splitlines()))
    for kind in REAL:
        assert sum(n for what, n in understood.items() if kind in what) >= EXAMPLES, kind
