"""POST /v2/models/{name}/infer: tensors in, tensors out; or encoded inputs in."""

import asyncio
import zlib
from time import perf_counter

from starlette.requests import Request
from starlette.responses import Response

from convserve.api.headers import header
from convserve.api.open_inference.codec import InferRequest, decode, encode
from convserve.api.open_inference.tensors import (
    RAW,
    answers,
    check_outputs,
    elements,
    is_encoded,
    items,
    raw,
)
from convserve.api.reading import TIMEOUT, admitted, read_body
from convserve.api.together import together
from convserve.engine import Arrays
from convserve.engine.memory import Hold
from convserve.engine.waiting import Priority
from convserve.errors import InvalidInput, MalformedRequest
from convserve.preprocess.prepared import SMALL
from convserve.repository import Repository
from convserve.served_model import ServedModel
from convserve.settings import Settings
from convserve.telemetry import Trace

HEADER_LENGTH = b"inference-header-content-length"
JSON_BYTES = 24  # of Python objects that a byte of JSON may become, until it is an array
WORTH_PACKING = 1024  # bytes; below, gzip costs more than it saves
WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
HIGHEST = 1  # of the protocol's priorities; 0 says nothing


async def infer(request: Request) -> Response:
    """Answer one request of one or several inputs."""
    repository: Repository = request.app.repository
    model, deadline = await admitted(request)
    with model.in_use, repository.memory.hold() as hold:
        question = await _read(request, model, hold)
        deadline = _deadline(request, question, deadline)
        rows = await _answer(request, model, question, hold, deadline)
        return await _response(request, model, question, rows)


async def _read(request: Request, model: ServedModel, hold: Hold) -> InferRequest:
    body = await read_body(request, model, hold)
    started = perf_counter()
    length = _header_length(request)
    if length == RAW:
        question = raw(model, body, header(request.scope, b"content-type") or "")
    else:
        with model.refusals, hold.during(JSON_BYTES * min(length or len(body), len(body))):
            question = decode(body, length)
    request.scope["trace"].span("decode", perf_counter() - started)
    _check_parameters(question)
    check_outputs(model, question)
    return question


def _header_length(request: Request) -> int | None:
    stated = header(request.scope, HEADER_LENGTH)
    if stated is None:
        return None
    if not stated.isascii() or not stated.isdecimal() or len(stated) > 15:
        raise MalformedRequest("Inference-Header-Content-Length must be a number of bytes")
    return int(stated)


def _check_parameters(question: InferRequest) -> None:
    for name in ("timeout", "priority"):
        value = question.parameters.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise InvalidInput("must be a whole number, 0 or more", f"/parameters/{name}")
    if question.parameters.get("sequence_id"):
        raise InvalidInput("no model here keeps a sequence", "/parameters/sequence_id")


def _deadline(request: Request, question: InferRequest, deadline: float) -> float:
    """Return the deadline with regard to the parameter `timeout`, in microseconds."""
    microseconds = question.parameters.get("timeout", 0)
    if not microseconds:
        return deadline
    trace: Trace = request.scope["trace"]
    end: float = asyncio.get_running_loop().time() - trace.seconds + microseconds / 1e6
    return min(deadline, end) if header(request.scope, TIMEOUT) else end


async def _answer(
    request: Request, model: ServedModel, question: InferRequest, hold: Hold, deadline: float
) -> list[Arrays]:
    trace: Trace = request.scope["trace"]
    inputs = await _inputs(request, model, question, hold, deadline)
    high = question.parameters.get("priority", 0) <= HIGHEST
    priority = Priority.NORMAL if high else Priority.LOW
    return await together(
        model.outputs(item, trace, deadline=deadline, priority=priority) for item in inputs
    )


async def _inputs(
    request: Request, model: ServedModel, question: InferRequest, hold: Hold, deadline: float
) -> list[Arrays]:
    settings: Settings = request.app.settings
    if not is_encoded(model, question.inputs):
        return items(model, question.inputs, settings.max_instances)
    text = _header_length(request) is None
    data = list(elements(model, question.inputs[0], settings.max_instances, text=text))
    trace = request.scope["trace"]
    prepared = await together(
        model.prepare(element, trace, hold, deadline=deadline) for element in data
    )
    return [item.inputs for item in prepared]


async def _response(
    request: Request, model: ServedModel, question: InferRequest, rows: list[Arrays]
) -> Response:
    started = perf_counter()
    facts = {"model_name": model.id, "model_version": model.version}
    if question.id is not None:
        facts["id"] = question.id
    pieces, length = encode(facts, answers(model, question, rows))
    body, headers = await _packed(request, b"".join(pieces))
    if length is not None:
        headers["Inference-Header-Content-Length"] = str(length)
    request.scope["trace"].span("post", perf_counter() - started)
    media = "application/json" if length is None else "application/octet-stream"
    return Response(body, headers=headers, media_type=media)


async def _packed(request: Request, body: bytes) -> tuple[bytes, dict[str, str]]:
    """Compress an answer if the caller asks for it and it is worth it."""
    accepted = header(request.scope, b"accept-encoding") or ""
    encoding = next((name for name in WINDOWS if name in accepted), None)
    if encoding is None or len(body) < WORTH_PACKING:
        return body, {}
    if len(body) > SMALL:
        body = await asyncio.to_thread(_compress, body, encoding)
    else:
        body = _compress(body, encoding)
    return body, {"Content-Encoding": encoding, "Vary": "Accept-Encoding"}


def _compress(body: bytes, encoding: str) -> bytes:
    packer = zlib.compressobj(1, wbits=WINDOWS[encoding])
    return packer.compress(body) + packer.flush()
