"""Work in the background: what fails is logged, what is left in the end is dropped."""

import asyncio
import logging
from collections.abc import Coroutine

logger = logging.getLogger(__name__)


class Chores:
    """Tasks that nobody waits for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Do it while others go on."""
        chore = asyncio.create_task(work)
        self._tasks.add(chore)
        chore.add_done_callback(self._done)

    async def drop(self) -> None:
        """Cancel what is not done."""
        for chore in self._tasks:
            chore.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, chore: asyncio.Task[None]) -> None:
        self._tasks.discard(chore)
        if not chore.cancelled() and (error := chore.exception()):
            logger.error("failed in the background", exc_info=error)
