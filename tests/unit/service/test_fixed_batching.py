import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from convserve.engine.cost import CostModel
from convserve.engine.isolation import Stop
from tests.measurements.batching import SECONDS, SIZE, FixedBatcher
from tests.unit.service.batching import Flag

pytestmark = pytest.mark.anyio


def batcher(sizes: list[int]) -> FixedBatcher[Any, Any]:
    def run(payloads: Sequence[Any], stop: Stop) -> Sequence[Any]:
        sizes.append(len(payloads))
        return payloads

    return FixedBatcher(
        run,
        name="net",
        cost=CostModel(),
        new_stop=Flag,
        max_batch_size=SIZE,
        queue_capacity=1000,
        executors=2,
        run_seconds=60,
        grace_seconds=60,
    )


async def test_the_fixed_rule_waits_for_a_full_batch_or_its_time() -> None:
    sizes: list[int] = []
    fixed = batcher(sizes)
    lone = await fixed.submit("lone")
    assert lone.queue_seconds >= SECONDS / 2
    answers = await asyncio.gather(*(fixed.submit(n) for n in range(2 * SIZE + 3)))
    assert [answer.value for answer in answers] == list(range(2 * SIZE + 3))
    assert sizes == [1, SIZE, SIZE, 3]
    await fixed.close()
