"""Several pieces of one request's work at once."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TypeVar

T = TypeVar("T")


async def together(work: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """Wait for all; if one fails, take the others back."""
    first, *others = work
    if not others:
        return [await first]
    tasks = [asyncio.ensure_future(item) for item in (first, *others)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
