"""Rules, dashboard and runbook name what there is; Prometheus itself is asked in tests/e2e."""

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml

from convserve.settings import variables
from tests.e2e.process import ROOT
from tests.observability import (
    COMPARISON,
    DASHBOARD,
    alerts,
    dashboard_queries,
    recorded,
    rules,
)

PROMETHEUS = {"up", "ALERTS"}
EXPRESSIONS = [rule["expr"] for rule in rules()]
QUERIES = [query for _, query in dashboard_queries()]
FIRST_LOOKS = [rule["annotations"]["query"] for rule in alerts().values()]
NAME = re.compile(r"\b(?:convserve|process)[_:][a-z0-9_:]+|\bup\b|\bALERTS\b")


def names(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in NAME.findall(expression)}


@pytest.mark.anyio
async def test_every_metric_that_is_asked_for_is_told(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text
    told = set(re.findall(r"^(\w+)", text, flags=re.MULTILINE)) | PROMETHEUS | recorded().keys()
    assert names([*EXPRESSIONS, *QUERIES, *FIRST_LOOKS]) - told == set()


def test_what_is_recorded_is_looked_at() -> None:
    asked = names([*QUERIES, *(rule["expr"] for rule in alerts().values())])
    assert recorded().keys() - asked == set()


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_an_alert_is_one_comparison_with_meaning_first_query_and_remedy(alert: str) -> None:
    rule = alerts()[alert]
    assert len(COMPARISON.findall(rule["expr"])) == 1
    assert rule["annotations"].keys() == {"summary", "query", "remedy"}
    assert all(len(text) > 10 for text in rule["annotations"].values())
    named = re.findall(r"CONVSERVE_[A-Z_]+", rule["annotations"]["remedy"])
    assert set(named) <= variables()
    assert set(re.findall(r"Convserve\w+", rule["annotations"]["remedy"])) <= alerts().keys()


def test_the_runbook_has_one_entry_per_alert() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert re.findall(r"^### (Convserve\w+)", page, flags=re.MULTILINE) == list(alerts())


def test_the_dashboard_is_wired_to_what_is_provisioned() -> None:
    board = json.loads(DASHBOARD.read_text())
    provisioning = ROOT / "docker" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "convserve.yml").read_text())[
        "providers"
    ]
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    places = {target: (ROOT / "docker" / place) for place, target in mounts.items()}
    assert places[provider["options"]["path"]].resolve() == DASHBOARD.parent
    assert places["/etc/grafana/provisioning"].resolve() == provisioning
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def test_prometheus_scrapes_the_service_by_the_rules_beside_it() -> None:
    config = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    assert (ROOT / "docker" / "prometheus" / Path(*config["rule_files"])).exists()
    ((target,),) = (one["targets"] for one in config["scrape_configs"][0]["static_configs"])
    assert target.split(":")[0] in services
