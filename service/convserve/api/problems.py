"""Errors on the wire: the one table code → status, title, cause and remedy (RFC 9457)."""

import logging
import math
import re
from dataclasses import dataclass
from functools import lru_cache

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from convserve.api.written import JSON, Written
from convserve.errors import CapacityError, ConvserveError
from convserve.telemetry import Telemetry, Trace

MEDIA_TYPE = "application/problem+json"
PROTOCOL = re.compile(r"/v2(/|$)")  # whose errors have a shape of their own
NO_STORE = (b"cache-control", b"no-store")
NOT_FOUND, METHOD, INTERNAL = "not_found", "method_not_allowed", "internal_error"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """How an error code is answered, and what its page says."""

    status: int
    title: str
    cause: str
    remedy: str


PROBLEMS = {
    "malformed_request": Problem(
        400,
        "The request cannot be parsed",
        "The body is not what its Content-Type says, it ended early, or a header has no usable "
        "value.",
        "Correct the request as `detail` says; sending it again unchanged will not help.",
    ),
    "unauthorized": Problem(
        401,
        "No valid credentials",
        "The request has no key, or a key that this service does not know.",
        "Send the key as `Authorization: Bearer …` or `X-API-Key: …`.",
    ),
    "forbidden": Problem(
        403,
        "Not allowed with these credentials",
        "The key is valid, but not for this operation.",
        "Use a key that allows the operation.",
    ),
    NOT_FOUND: Problem(
        404,
        "There is nothing at this path",
        "The path is none of those in /openapi.json.",
        "Look the path up in /docs.",
    ),
    "model_not_found": Problem(
        404,
        "There is no such model",
        "The model store of this service holds no artifact of that name, or not that version.",
        "Take a name and a version from GET /v1/models.",
    ),
    METHOD: Problem(
        405,
        "The path does not take this method",
        "The path exists, but for other methods, which the header Allow lists.",
        "Use a method that Allow lists.",
    ),
    "input_too_large": Problem(
        413,
        "The input is too large",
        "The body has more bytes, the image more pixels, or the sound more seconds than this "
        "service takes, or the request alone needs more memory than all together may take.",
        "Send a smaller input or fewer instances, or have the operator raise "
        "CONVSERVE_MAX_BODY_BYTES, CONVSERVE_MAX_PIXELS or CONVSERVE_MAX_IN_FLIGHT_BYTES.",
    ),
    "unsupported_media": Problem(
        415,
        "The model does not take this media type",
        "The Content-Type, the charset or the format of the data is none that fits the model.",
        "Send images as image/*, sounds as audio/*, text as UTF-8 text/plain, or any of them as "
        "application/json or multipart/form-data.",
    ),
    "invalid_input": Problem(
        422,
        "A value in the request is unusable",
        "The request was understood, but a value in it cannot be used: a corrupt image, an empty "
        "text, a key that does not exist.",
        "Correct the value at `errors[].pointer`.",
    ),
    "queue_full": Problem(
        429,
        "Too many requests are waiting",
        "As many requests wait for this model as may wait, or the requests in flight take as much "
        "memory as they may.",
        "Send it again after the seconds in Retry-After, or have the operator add capacity.",
    ),
    "deadline_unmeetable": Problem(
        429,
        "The deadline cannot be met",
        "By what is measured now, the answer would come after the request's deadline.",
        "Allow more time in X-Request-Timeout-Ms, or send it again after Retry-After.",
    ),
    "rate_limited": Problem(
        429,
        "Too many requests with this key",
        "The key has a limit of requests a second, or of requests at once.",
        "Send it again after Retry-After, or have the operator raise "
        "CONVSERVE_KEY_REQUESTS_PER_SECOND or CONVSERVE_KEY_CONCURRENCY.",
    ),
    "inference_failed": Problem(
        500,
        "The model failed on this input",
        "The network raised an error, or gave a probability that is not a number.",
        "Report the request_id to the operator, whose log has the details.",
    ),
    INTERNAL: Problem(
        500,
        "Something went wrong in the service",
        "The service met a situation that it was not made for: a defect.",
        "Report the request_id to the operator, whose log has the details.",
    ),
    "draining": Problem(
        503,
        "The service is shutting down",
        "The service finishes what it accepted and takes nothing new.",
        "Send it again after Retry-After; another instance will answer.",
    ),
    "model_not_ready": Problem(
        503,
        "The model is not ready",
        "The model is still loading, it failed its verification, or a run of it does not end.",
        "Send it again after Retry-After; if `detail` names a fault, the operator has to mend it.",
    ),
    "deadline_exceeded": Problem(
        504,
        "No answer before the deadline",
        "The request was accepted, but its deadline passed before the model answered, or the run "
        "took longer than any may.",
        "Allow more time in X-Request-Timeout-Ms, or send fewer requests at once.",
    ),
}
HTTP_CODES = {404: NOT_FOUND, 405: METHOD}


async def handle(request: Request, error: Exception) -> Response:
    """Be Starlette's exception handler."""
    return respond(request.scope, error)


def respond(scope: Scope, error: Exception) -> Response:
    """Return the answer that tells the caller about `error`."""
    code, detail = _describe(scope, error)
    problem = PROBLEMS[code]
    telemetry: Telemetry = scope["app"].telemetry
    telemetry.error(code).inc()
    pointer: str | None = getattr(error, "pointer", None)
    media_type, around = _told(code, detail, pointer, scope.get("root_path", ""), scope["path"])
    trace: Trace = scope["trace"]
    body = trace.request_id.encode().join(around)  # fit for headers, so it needs no escapes
    error.__traceback__ = None  # its frames hold it: garbage that somebody would have to look for
    return Written(body, media_type, problem.status, _headers(problem.status, error))


@lru_cache(maxsize=16)
def _told(
    code: str, detail: str, pointer: str | None, root: str, path: str
) -> tuple[str, tuple[bytes, ...]]:
    """Return media type and body, the latter in two where the request's id belongs in between.

    Under overload many hear the same.
    """
    if PROTOCOL.match(path.removeprefix(root)):
        error = f"{pointer}: {detail}" if pointer else detail
        return JSON, (orjson.dumps({"error": error}),)
    problem = PROBLEMS[code]
    first = {
        "type": f"{root}/problems/{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": path,
        "code": code,
    }
    errors = [] if pointer is None else [{"pointer": pointer, "code": code, "detail": detail}]
    last = {"errors": errors, "error": detail}
    before, after = orjson.dumps(first)[:-1], orjson.dumps(last)[1:]
    return MEDIA_TYPE, (before + b',"request_id":"', b'",' + after)


def _describe(scope: Scope, error: Exception) -> tuple[str, str]:
    if isinstance(error, ConvserveError) and error.code in PROBLEMS:
        return error.code, error.detail
    if isinstance(error, HTTPException) and error.status_code in HTTP_CODES:
        code = HTTP_CODES[error.status_code]
        return code, f"{PROBLEMS[code].title}: {scope['method']} {scope['path']}"
    logger.error("unexpected error", exc_info=error)
    return INTERNAL, PROBLEMS[INTERNAL].title


def _headers(status: int, error: Exception) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, CapacityError) and status in {429, 503}:
        return NO_STORE, (b"retry-after", b"%d" % max(1, math.ceil(error.retry_after or 0)))
    if isinstance(error, HTTPException) and error.headers and "Allow" in error.headers:
        allowed = ", ".join(sorted(error.headers["Allow"].split(", ")))
        return NO_STORE, (b"allow", allowed.encode())
    return (NO_STORE, (b"www-authenticate", b"Bearer")) if status == 401 else (NO_STORE,)
