"""What an operator is given: the rules and the dashboard, as data."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.e2e.process import ROOT

RULES = ROOT / "docker" / "prometheus" / "rules.yml"
DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "convserve.json"
COMPARISON = re.compile(r" (<|>) (?=[0-9.]+$)")


def rules() -> list[dict[str, Any]]:
    """Every rule, recording and alerting."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> dict[str, str]:
    """The recorded series: name → expression."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """The dashboard's queries, each with its panel's title."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def as_values(expression: str) -> str:
    """The alert's comparison as a value, 0 or 1, instead of a filter."""
    return COMPARISON.sub(r" \1 bool ", expression)
