"""Blocks around what is asked of a model: what is refused in them, and who is still inside."""

import asyncio
from collections.abc import Callable

from convserve.errors import CapacityError, QueueFull
from convserve.telemetry import ModelMetrics

POLL_SECONDS = 0.05  # how often to look whether somebody is still inside


class Refusals:
    """Blocks in which what is dropped is counted, and who meets a full queue told when to come."""

    def __init__(self, metrics: ModelMetrics, backlog_seconds: Callable[[], float]) -> None:
        self._metrics = metrics
        self._backlog_seconds = backlog_seconds

    def __enter__(self) -> None:
        """Begin a block; there may be several at once."""

    def __exit__(self, kind: object, refusal: BaseException | None, traceback: object) -> None:
        """Count what was refused."""
        if isinstance(refusal, CapacityError):
            self._metrics.dropped(refusal.code)
            if isinstance(refusal, QueueFull):
                raise QueueFull(refusal.detail, self._backlog_seconds()) from None


class Users:
    """Blocks before whose end a model does not retire; `count` are open."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        """Begin a block; there may be several at once."""
        self.count += 1

    def __exit__(self, *error: object) -> None:
        """End it."""
        self.count -= 1

    async def gone(self) -> None:
        """Wait until none is open."""
        while self.count:  # noqa: ASYNC110 - it is nobody's business to tell
            await asyncio.sleep(POLL_SECONDS)
