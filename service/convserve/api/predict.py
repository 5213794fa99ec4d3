"""POST /v1/models/{name}/predict: raw bytes in, answers out."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from convserve.api.bodies import WHOLE, Call, Instance, reader_of
from convserve.api.headers import header
from convserve.api.reading import admitted, read_body
from convserve.api.together import together
from convserve.api.written import Written
from convserve.engine.memory import ByteBudget, Hold
from convserve.errors import CallerError, InvalidInput
from convserve.preprocess.prepared import Prepared
from convserve.served_model import ServedModel
from convserve.settings import Settings, suggestion
from convserve.telemetry import Trace


async def predict(request: Request) -> Response:
    """Answer one request of one or several instances."""
    model, predictions = await ask(request)
    answer = {"model": model.id, "version": model.version, "predictions": predictions}
    return Written(orjson.dumps(answer))


async def ask(request: Request) -> tuple[ServedModel, list[dict[str, Any]]]:
    """Return the model that the path names, and its answer to each instance in the body."""
    memory: ByteBudget = request.app.repository.memory
    trace: Trace = request.scope["trace"]
    model, deadline = await admitted(request)
    with model.in_use, memory.hold() as hold:
        call, top_k = _read(request, model, await read_body(request, model, hold))
        return model, await _answer(model, call.instances, trace, hold, top_k, deadline)


def _read(request: Request, model: ServedModel, body: bytes) -> tuple[Call, int | None]:
    settings: Settings = request.app.settings
    reader = reader_of(model.modality, settings.max_instances)
    call = reader.read(header(request.scope, b"content-type") or "", body)
    top_k = _top_k(call.top_k, len(model.labels), "/top_k")
    if request.scope["query_string"]:
        top_k = _top_k(_query(request), len(model.labels), "?top_k") or top_k
    return call, top_k


def _query(request: Request) -> object:
    for key, value in request.query_params.items():
        if key != "top_k":
            close = suggestion(key, ("top_k",))
            raise InvalidInput(f"there is no query parameter {key[:100]!r}{close}", f"?{key}")
        return int(value) if WHOLE.fullmatch(value) else value
    return None


def _top_k(given: object, labels: int, pointer: str) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= labels:
        raise InvalidInput(f"top_k must be a whole number from 1 to {labels}", pointer)
    return given


async def _answer(
    model: ServedModel,
    instances: list[Instance],
    trace: Trace,
    hold: Hold,
    top_k: int | None,
    deadline: float,
) -> list[dict[str, object]]:
    # Everything is prepared before anything is queued: a bad instance wastes no run.
    prepared = await together(
        [_prepare(model, instance, trace, hold, deadline) for instance in instances]
    )
    return await together(
        [model.infer(item, trace, top_k=top_k, deadline=deadline) for item in prepared]
    )


async def _prepare(
    model: ServedModel, instance: Instance, trace: Trace, hold: Hold, deadline: float
) -> Prepared:
    try:
        return await model.prepare(instance.data, trace, hold, deadline=deadline)
    except CallerError as error:
        error.pointer = instance.pointer
        raise
