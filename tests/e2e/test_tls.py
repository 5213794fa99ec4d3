"""HTTPS, as the operator sets it up."""

import ssl
import subprocess
import sys
from pathlib import Path

import httpx

from tests.e2e.process import await_ready, serving

COMMAND = [sys.executable, "-m", "convserve.cli", "serve", "--store"]


def test_https_is_spoken_with_a_certificate(pristine_store: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    environment = {
        "CONVSERVE_TLS_CERTIFICATE": str(certificate),
        "CONVSERVE_TLS_KEY": str(key),
    }
    command = [*COMMAND, str(pristine_store)]
    log = tmp_path / "log"
    with serving(command, cwd=tmp_path, log=log, environment=environment) as server:
        url = str(server.client.base_url).replace("http:", "https:")
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=url, verify=trusted, trust_env=False) as client:
            await_ready(client)
            assert client.get("/livez").json() == {"live": True}
    assert f"convserve is ready at {url}" in log.read_text()
