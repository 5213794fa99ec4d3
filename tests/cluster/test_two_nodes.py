"""The service on two Ray nodes: two_nodes.py says what happened, here is what must."""

import json
import os
import subprocess

import pytest
import yaml

from tests.e2e.process import ROOT, free_port


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_two_nodes_answer_as_one_service() -> None:
    done = subprocess.run(
        [ROOT / ".venv/ray/bin/python", "-m", "tests.cluster.two_nodes", str(free_port())],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "docker" / "ray"),
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(seen, indent=1))
    assert seen["compared"].keys() == {"equal"}
    assert seen["goldens"].keys() == {"right"}
    for load in ("node_removed", "light_load", "heavy_load"):
        assert seen[load]["right"] > 0
        assert not seen[load].keys() & {"wrong", "given up"}
    assert seen["replicas_under_light_load"] == 1  # requests do not scale out, a queue does
    assert seen["scaled_out_s"] > 0
    assert seen["scaled_in_s"] > 0


def test_the_operator_is_given_the_same_application() -> None:
    here = yaml.safe_load((ROOT / "docker/ray/serve.yaml").read_text())
    service = yaml.safe_load((ROOT / "docker/ray/kuberay.yaml").read_text())["spec"]
    assert yaml.safe_load(service["serveConfigV2"])["applications"] == here["applications"]
    (workers,) = service["rayClusterConfig"]["workerGroupSpecs"]
    (deployment,) = here["applications"][0]["deployments"]
    (container,) = workers["template"]["spec"]["containers"]
    room = int(container["resources"]["limits"]["cpu"])
    assert room % deployment["ray_actor_options"]["num_cpus"] == 0
    assert workers["maxReplicas"] >= deployment["autoscaling_config"]["max_replicas"]
