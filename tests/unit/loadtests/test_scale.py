"""The arithmetic of scale: enough of everything, and no more than the premises say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.scale import Premises, computed, rows

ARTIFACT = 5_000_000


def profile(cpu: float, share: float, request: int = 3000, answer: int = 400) -> dict[str, Any]:
    """What `convserve profile --out` writes of a model, as far as it is read."""
    saturation = min(2 / cpu, 1 / (cpu * share))
    option = {"cores": 2, "saturation": saturation, "takes": 0.9 * saturation}
    bodies = {"request_bytes": request, "answer_bytes": answer}
    capacity = {"cpu_seconds": cpu, "loop_seconds": cpu * share, "options": [option], **bodies}
    return {"model": "net", "curve": [[1, cpu]], "capacity": capacity}


def found(cpu: float, share: float, given: Premises) -> dict[str, float]:
    named = [(row.name, row.value) for row in rows(profile(cpu, share), ARTIFACT, given)]
    assert len(dict(named)) == len(named)
    return dict(named)


cpus = st.floats(1e-4, 0.1)
shares = st.floats(0.05, 1)
rates = st.floats(1e3, 1e7)


@given(cpus, shares, rates)
def test_when_a_zone_is_lost_the_others_still_answer(cpu: float, share: float, rate: float) -> None:
    it = found(cpu, share, Premises(rps=rate))
    assert it["replicas"] * 2 / 3 * it["a replica takes within its p99"] >= rate * (1 - 1e-9)


@given(cpus, shares, rates)
def test_replicas_fit_on_the_nodes_and_no_node_is_idle(
    cpu: float, share: float, rate: float
) -> None:
    it = found(cpu, share, Premises(rps=rate))
    assert (it["nodes"] - 1) * 30 < it["replicas"] <= it["nodes"] * 30
    assert 0 < it["of them busy"] <= 100


@given(cpus, shares)
def test_prices_follow_their_premises(cpu: float, share: float) -> None:
    cheap, dear = (found(cpu, share, Premises(core_hour=price)) for price in (0.04, 0.08))
    per_million = "a million predictions, cores"
    assert dear[per_million] == pytest.approx(2 * cheap[per_million])
    assert cheap[per_million] == pytest.approx(cheap["cores paid for"] * 0.04 / 3600)
    leaving = found(cpu, share, replace(Premises(), egress_gigabyte=0.1, header_bytes=600))
    egress = leaving["a million predictions"] - leaving[per_million]
    assert egress == pytest.approx(0.1)  # 1,000 bytes each


def test_traffic_is_bodies_and_headers() -> None:
    it = found(0.001, 0.2, Premises(rps=1e6, header_bytes=1000))
    assert it["network in"] == pytest.approx(1e6 * 4000 * 8 / 1e9)
    assert it["network out"] == pytest.approx(1e6 * 1400 * 8 / 1e9)
    assert it["store, a rollout"] == pytest.approx(it["replicas"] * ARTIFACT / 1e9)


def test_a_table_has_a_column_for_each_profile(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for model in ("one", "two"):
        (store / model / "1").mkdir(parents=True)
        (store / model / "1" / "model.onnx").write_bytes(bytes(2_000_000))
        (tmp_path / f"{model}.json").write_text(json.dumps(profile(0.001, 0.2) | {"model": model}))
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    lines = list(computed(files, store, Premises()))
    assert "| quantity | from | `one` | `two` |" in lines
    assert "| artifact | its files | 2 MB | 2 MB |" in lines
