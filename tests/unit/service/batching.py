"""Parts of a batcher's surroundings that its tests share."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from convserve.engine.batcher import Batcher
from convserve.engine.cost import CostModel
from convserve.engine.isolation import Stop

Runner = Callable[[Sequence[Any], Stop], Sequence[Any]]


@dataclass
class Flag:
    """A Stop that stops nothing by itself."""

    terminate: bool = False


@dataclass
class Known:
    """A Cost that was settled beforehand: so many seconds for each payload."""

    each: float

    def predict(self, key: Hashable, size: int) -> float:
        return self.each * size

    def worthwhile(self, key: Hashable, most: int, overhead: float) -> int:
        return most

    def learn(self, key: Hashable, size: int, seconds: float) -> None: ...


def make(run: Runner, **options: Any) -> Batcher[Any, Any]:
    defaults: dict[str, Any] = {
        "cost": CostModel(),
        "new_stop": Flag,
        "max_batch_size": 8,
        "queue_capacity": 1000,
        "executors": 2,
        "run_seconds": 60,
        "grace_seconds": 60,
    }
    return Batcher(run, name="net", **defaults | options)


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own; an exception nobody handled fails it."""

    async def supervised() -> None:
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unhandled.append(what))
        await test()
        assert unhandled == []

    def synchronous() -> None:
        asyncio.run(supervised())

    return synchronous


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what it waits for happens in other threads
            await asyncio.sleep(0.001)
