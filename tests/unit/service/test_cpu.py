import asyncio
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.engine.cpu import (
    NICENESS,
    Throttling,
    cpu_budget,
    give_way,
    throttling,
    watch_throttling,
)
from tests.unit.service.cgroups import tree

EIGHT = set(range(8))


def v1(quota: str, period: str = "100000", group: str = "cpu") -> dict[str, str]:
    return {f"{group}/cpu.cfs_quota_us": quota, f"{group}/cpu.cfs_period_us": period}


CONTAINER_V1 = "4:cpu,cpuacct:/docker/af1\n3:cpuset:/docker/af1\n1:name=systemd:/docker/af1"


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        pytest.param("0::/", {"cpu.max": "150000 100000"}, 1.5, id="v2 quota"),
        pytest.param("0::/", {"cpu.max": "max 100000"}, 8, id="v2 unlimited"),
        pytest.param("0::/", {"cpu.max": "1600000 100000"}, 8, id="v2 quota above the machine"),
        pytest.param("0::/", {"cpu.max": "25000 50000"}, 0.5, id="v2 less than a core"),
        pytest.param("0::/", {}, 8, id="v2 root group of a bare machine"),
        pytest.param(
            "0::/a/b",
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"},
            3,
            id="v2 the parent binds",
        ),
        pytest.param(
            "0::/a/b",
            {"a/b/cpu.max": "200000 100000", "a/cpu.max": "300000 100000"},
            2,
            id="v2 the child binds",
        ),
        pytest.param(
            "0::/a",
            {"a/cpu.max": "max 100000", "a/b/cpu.max": "100000 100000", "c/cpu.max": "1 100000"},
            8,
            id="v2 others' groups do not count",
        ),
        pytest.param(
            "0::/../../host/pod", {"cpu.max": "250000 100000"}, 2.5, id="v2 outside the namespace"
        ),
        pytest.param(
            "0::/kubepods/pod1", {"cpu.max": "250000 100000"}, 2.5, id="v2 own group at the top"
        ),
        pytest.param("0::/", {"cpuset.cpus.effective": "0-1,5,11"}, 3, id="v2 cpuset"),
        pytest.param("0::/", {"cpuset.cpus.effective": "64-71"}, 8, id="cpuset of other CPUs"),
        pytest.param("4:cpu:/", v1("150000"), 1.5, id="v1 quota"),
        pytest.param("4:cpu:/", v1("-1"), 8, id="v1 unlimited"),
        pytest.param("4:cpu:/x", v1("300000") | v1("120000", group="cpu/x"), 1.2, id="v1 nested"),
        pytest.param(CONTAINER_V1, v1("200000", group="cpu,cpuacct"), 2, id="v1 joint mount"),
        pytest.param(CONTAINER_V1, v1("200000", group="cpu"), 2, id="v1 symlinked mount"),
        pytest.param(CONTAINER_V1, {"cpuset/cpuset.effective_cpus": "2-3"}, 2, id="v1 cpuset"),
        pytest.param(
            f"{CONTAINER_V1}\n0::/", {"unified/cgroup.procs": "", **v1("400000")}, 4, id="hybrid"
        ),
        pytest.param("0::/", {"cpu.max": "many"}, 8, id="garbage in the quota"),
        pytest.param("0::/", {"cpu.max": "100000 0"}, 8, id="garbage in the period"),
        pytest.param("0::/", {"cpuset.cpus.effective": ""}, 8, id="empty cpuset"),
        pytest.param("what is this", {"cpu.max": "100000 100000"}, 8, id="garbage in proc"),
    ],
)
def test_what_binds(tmp_path: Path, membership: str, files: dict[str, str], cores: float) -> None:
    budget = cpu_budget(root=tree(tmp_path, membership, files), affinity=EIGHT)
    assert budget.cores == pytest.approx(cores)


def test_affinity_and_cpuset_intersect(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", {"cpuset.cpus.effective": "0-3"})
    assert cpu_budget(root=root, affinity={2, 3, 4, 5}).cores == 2
    assert cpu_budget(root=root, affinity={3}).cores == 1


def test_what_cannot_be_read_does_not_bind(tmp_path: Path) -> None:
    assert cpu_budget(root=tmp_path, affinity=EIGHT).cores == 8
    root = tree(tmp_path, "0::/", {})
    (root / "sys/fs/cgroup/cpu.max").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpuset.cpus.effective").write_bytes(b"\xff\xfe")
    assert cpu_budget(root=root, affinity=EIGHT).cores == 8


@given(quota=st.integers(1_000, 10**7), period=st.integers(1_000, 10**6), cpus=st.integers(1, 128))
def test_executors_never_exceed_the_cores(
    tmp_path_factory: pytest.TempPathFactory, quota: int, period: int, cpus: int
) -> None:
    root = tree(tmp_path_factory.mktemp("root"), "0::/", {"cpu.max": f"{quota} {period}"})
    budget = cpu_budget(root=root, affinity=set(range(cpus)))
    assert budget.cores == min(cpus, quota / period)
    assert budget.executors * budget.threads_per_executor == max(1, math.floor(budget.cores))
    assert budget.spread.all == (set(range(cpus)) if budget.executors >= cpus else set())


def test_the_reason_names_what_binds(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/a", {"a/cpu.max": "150000 100000"})
    reason = cpu_budget(root=root, affinity=EIGHT).reason
    assert reason.startswith("1.5 CPU cores")
    assert f"CPU quota of {root}/sys/fs/cgroup/a, 8 visible" in reason


def test_an_override_wins_and_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", {"cpu.max": "150000 100000"})
    budget = cpu_budget(4, root=root, affinity=EIGHT)
    assert (budget.cores, budget.executors) == (4, 4)
    assert "configuration" in budget.reason
    assert "1.5 allowed by CPU quota" in budget.reason


@pytest.mark.parametrize("cores", [0, -1, math.nan, math.inf])
def test_an_override_is_a_number_of_cores(cores: float) -> None:
    with pytest.raises(ValueError, match="CPU cores must be above 0"):
        cpu_budget(cores)


def test_this_process_has_a_budget() -> None:
    budget = cpu_budget()
    assert 0 < budget.cores <= (os.cpu_count() or 1)
    assert budget.reason


def stat(periods: int, throttled: int, time: str) -> str:
    return f"usage_usec 77\nnr_periods {periods}\nnr_throttled {throttled}\n{time}\nnr_bursts 0"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        pytest.param(
            "0::/",
            {"cpu.stat": stat(200, 30, "throttled_usec 1500000")},
            Throttling(200, 30, 1.5),
            id="v2",
        ),
        pytest.param(
            CONTAINER_V1,
            {"cpu,cpuacct/cpu.stat": stat(200, 30, "throttled_time 2500000000")},
            Throttling(200, 30, 2.5),
            id="v1",
        ),
        pytest.param(
            "0::/a/b",
            {
                "a/b/cpu.stat": stat(900, 0, "throttled_usec 0"),
                "a/cpu.stat": stat(100, 7, "throttled_usec 10"),
            },
            Throttling(100, 7, 1e-5),
            id="the parent is throttled",
        ),
        pytest.param("0::/", {"cpu.stat": "usage_usec 5"}, Throttling(), id="no quota"),
        pytest.param("0::/", {}, Throttling(), id="bare machine"),
        pytest.param("0::/", {"cpu.stat": "nr_periods many"}, Throttling(), id="garbage"),
    ],
)
def test_what_the_quota_cost(
    tmp_path: Path, membership: str, files: dict[str, str], expected: Throttling
) -> None:
    assert throttling(tree(tmp_path, membership, files)) == expected


def test_without_control_groups_nothing_is_throttled(tmp_path: Path) -> None:
    assert throttling(tmp_path) == Throttling()


@pytest.mark.parametrize(("throttled", "warnings"), [(0, 0), (5, 0), (6, 1), (100, 1)])
def test_more_than_one_period_in_twenty_is_a_warning(
    caplog: pytest.LogCaptureFixture, throttled: int, warnings: int
) -> None:
    states = [Throttling(50, 50, 9.0)] + [Throttling(150, 50 + throttled, 9.5)] * 2

    async def scenario() -> None:
        readings = iter(states)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await watch_throttling(0, lambda: next(readings))

    asyncio.run(scenario())
    assert len(caplog.records) == warnings
    for record in caplog.records:
        assert f"in {throttled} % of the last periods, for 0.5 s" in record.getMessage()


def test_a_thread_that_gives_way_is_nicer_than_the_others() -> None:
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        nicer = pool.submit(os.getpriority, os.PRIO_PROCESS, 0).result()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert nicer == (min(19, own + NICENESS) if sys.platform == "linux" else own)
