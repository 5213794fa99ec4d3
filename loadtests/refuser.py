"""The cheapest refusal there is: `python -m loadtests.refuser` answers 429 to every POST."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

HEADERS = [(b"content-length", b"0"), (b"retry-after", b"1")]


Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Be an ASGI application."""
    if scope["type"] != "http":
        return
    status = 200 if scope["method"] == "GET" else 429
    await send({"type": "http.response.start", "status": status, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        refuse,
        port=int(os.environ["CONVSERVE_PORT"]),
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
