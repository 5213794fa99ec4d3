"""What every inference route reads of a request: its deadline, and its body within the limits."""

import asyncio
import re
import zlib
from time import monotonic

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from convserve.api.headers import header
from convserve.engine.memory import Hold
from convserve.errors import InputTooLarge, MalformedRequest, UnsupportedMedia
from convserve.preprocess.prepared import SMALL
from convserve.repository import Repository
from convserve.served_model import ServedModel
from convserve.settings import Settings

ADMITTED = "admitted"
"""In the scope of a request that was let in: its model and its deadline."""

WHOLE = "whole body"
"""In the scope of a request whose body was there when its turn came."""

TIMEOUT = b"x-request-timeout-ms"
MILLISECONDS = re.compile(r"[1-9][0-9]{0,8}")
WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content-Encoding (RFC 9110) → what zlib calls it."""

EXPANSION = 1032  # what DEFLATE makes of a byte at most


def deadline(scope: Scope) -> float:
    """Return when the answer becomes worthless, in seconds of `time.monotonic`, the loop's clock.

    Raises MalformedRequest.
    """
    stated = header(scope, TIMEOUT)
    if stated is None:
        settings: Settings = scope["app"].settings
        return monotonic() + settings.deadline_ms / 1e3
    if not MILLISECONDS.fullmatch(stated):
        raise MalformedRequest("X-Request-Timeout-Ms must be a number of milliseconds, 1 or more")
    return monotonic() + int(stated) / 1e3


async def admitted(request: Request) -> tuple[ServedModel, float]:
    """Return the model that the path names, and the deadline that it can meet as far as is known.

    Who awaits nothing before `in_use` keeps the model from being unloaded. Raises MalformedRequest,
    and what Repository.get and ServedModel.admit raise.
    """
    model, end = request.scope.get(ADMITTED, (None, 0.0))
    let_in = model is not None and not model.retired
    if not let_in:
        repository: Repository = request.app.repository
        end = deadline(request.scope)
        model = await repository.get(**request.path_params)
    request.scope["trace"].metrics = model.metrics
    if not let_in:
        model.admit(end)
    return model, end


async def read_body(request: Request, model: ServedModel, hold: Hold) -> bytes:
    """Return the whole body, unpacked; `hold` accounts for it.

    Raises UnsupportedMedia, MalformedRequest, InputTooLarge or QueueFull.
    """
    stated = header(request.scope, b"content-encoding")
    encoding = "identity" if stated is None else stated.strip().lower()
    if encoding != "identity" and encoding not in WINDOWS:
        raise UnsupportedMedia("Content-Encoding must be identity, gzip or deflate")
    settings: Settings = request.app.settings
    limit = settings.max_body_bytes
    if WHOLE in request.scope:
        body: bytes = request.scope[WHOLE]
        _take(model, hold, len(body), limit)
    else:
        body = await _received(request, model, hold, limit)
    return body if encoding == "identity" else await _unpacked(body, model, hold, encoding, limit)


async def _received(request: Request, model: ServedModel, hold: Hold, limit: int) -> bytes:
    """Refuse what is too long by what is stated, or else while it comes in."""
    stated = header(request.scope, b"content-length") or ""
    if stated.isdecimal() and int(stated[:19]) > limit:
        raise _too_long(limit)
    chunks: list[bytes] = []
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            model.metrics.cancelled("body")
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        _take(model, hold, len(chunk), limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _take(model: ServedModel, hold: Hold, count: int, limit: int) -> None:
    with model.refusals:
        hold.take(count)
    if hold.taken > limit:
        raise _too_long(limit)


def _too_long(limit: int) -> InputTooLarge:
    return InputTooLarge(f"the body may have at most {limit:,} bytes")


async def _unpacked(
    body: bytes, model: ServedModel, hold: Hold, encoding: str, limit: int
) -> bytes:
    most = len(body) * EXPANSION
    with model.refusals, hold.during(min(most, limit)):
        if most > SMALL:
            unpacked = await asyncio.to_thread(decompress, body, encoding, limit)
        else:
            unpacked = decompress(body, encoding, limit)
    with model.refusals:
        hold.take(len(unpacked))
    return unpacked


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo `encoding`, gzip or deflate.

    Raises InputTooLarge beyond `limit` bytes, MalformedRequest if `body` is not exactly that.
    """
    stream = zlib.decompressobj(WINDOWS[encoding])
    try:
        unpacked = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedRequest(f"the body is not {encoding}: {error}") from None
    if len(unpacked) > limit:
        raise InputTooLarge(f"the unpacked body may have at most {limit:,} bytes")
    if not stream.eof or stream.unused_data:
        raise MalformedRequest(f"the {encoding} body ends early or late")
    return unpacked
