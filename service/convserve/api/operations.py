"""The OpenAPI operation objects: every status, media type and example of every route."""

from collections.abc import Iterable
from dataclasses import dataclass

from convserve.api.access import Handler, Right
from convserve.api.problems import MEDIA_TYPE, PROBLEMS
from convserve.api.schemas import METHODS, STRING, TOP_K, Object, ref

# An 8×8 PNG, so that the examples run as they stand.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAGklEQVR42mPUiLIRYWDARCwMDCIM2MDglAAAOr8B"
    "9Ccvb1MAAAAASUVORK5CYII="
)
SENTENCE = "The central bank raised interest rates again as inflation stayed high."

HEADERS: Object = {
    "X-Request-ID": {"schema": STRING, "description": "The request's own id, or a new one."},
    "Server-Timing": {"schema": STRING, "description": "Where the time went, in milliseconds."},
}
MODEL_HEADERS: Object = {
    name: {"schema": STRING} for name in ("X-Model-Name", "X-Model-Version", "X-Batch-Size")
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, and the right that it asks for."""

    method: str
    path: str
    handler: Handler
    document: Object
    right: Right = "inference"


def answer(description: str, schema: str, **more: Object) -> Object:
    """Return a response object of JSON."""
    content = {"application/json": {"schema": ref(schema)}}
    return {"description": description, "headers": HEADERS, "content": content} | more


def raw(description: str, media: str) -> Object:
    """Return a response object of some other media type."""
    content = {media: {"schema": STRING if media.startswith("text/") else {"type": "object"}}}
    return {"description": description, "headers": HEADERS, "content": content}


def file(description: str, *media: str) -> Object:
    """Return a response object of bytes as they are."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media}
    return {"description": description, "headers": HEADERS, "content": content}


def page(description: str, schema: str | None = None) -> Object:
    """Return a response object of HTML, or of JSON for those who do not ask for HTML."""
    content: Object = {"text/html": {"schema": STRING}}
    if schema:
        content["application/json"] = {"schema": ref(schema)}
    return {"description": description, "headers": HEADERS, "content": content}


def problems(*codes: str) -> dict[str, Object]:
    """Return the response objects of these error codes, by status."""
    return {status: _problem(found) for status, found in _by_status(*codes).items()}


def _by_status(*codes: str) -> dict[str, list[str]]:
    by_status: dict[str, list[str]] = {}
    for code in (*codes, "input_too_large", "internal_error"):
        by_status.setdefault(str(PROBLEMS[code].status), []).append(code)
    return dict(sorted(by_status.items()))


def _problem(codes: list[str]) -> Object:
    problem = {"schema": ref("Problem"), "examples": {code: _example(code) for code in codes}}
    return _failure(codes, {MEDIA_TYPE: problem})


def errors(*codes: str) -> dict[str, Object]:
    """Return the response objects of these error codes as the protocol has them, by status."""
    content: Object = {"application/json": {"schema": ref("InferenceError")}}
    return {status: _failure(found, content) for status, found in _by_status(*codes).items()}


def _failure(codes: list[str], content: Object) -> Object:
    retry = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    waits = PROBLEMS[codes[0]].status in {429, 503}
    return {
        "description": "; or: ".join(PROBLEMS[code].title for code in codes),
        "headers": HEADERS | (retry if waits else {}),
        "content": content,
    }


def _example(code: str) -> Object:
    problem = PROBLEMS[code]
    value = {
        "type": f"/problems/{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.cause,
        "instance": "/v1/models/all_cnn_cifar10/predict",
        "code": code,
        "request_id": "3f1c9a52d8f44b0f9f0c6d6a9b1f7c55",
        "errors": [],
        "error": problem.cause,
    }
    return {"value": value}


NAME: Object = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$", "maxLength": 64},
    "examples": {"image": {"value": "all_cnn_cifar10"}, "text": {"value": "char_cnn_ag_news"}},
}
VERSION: Object = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
    "example": "1",
}
FILE: Object = {
    "name": "file",
    "in": "path",
    "required": True,
    "schema": STRING,
    "example": "main.js",
}
SAMPLE: Object = {
    "name": "sample",
    "in": "path",
    "required": True,
    "schema": STRING,
    "description": "The name of a file in the samples of the model's manifest.",
    "example": "cat.png",
}
TAG: Object = {
    "name": "tag",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z0-9_.-]+$", "maxLength": 64},
    "description": "`latest`, or a name that the operator gave a version.",
    "example": "latest",
}
CODE: Object = {
    "name": "code",
    "in": "path",
    "required": True,
    "schema": {"enum": list(PROBLEMS)},
    "example": "invalid_input",
}
OPTIONS: list[Object] = [
    {"name": "top_k", "in": "query", "schema": TOP_K, "example": 3},
    {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        "description": "Milliseconds after which the answer is worthless.",
        "example": 2000,
    },
    {
        "name": "X-Request-ID",
        "in": "header",
        "schema": STRING,
        "description": "Comes back on the answer and in the log if it has 1 to 128 letters, digits "
        "or `._:/+=-`; any other is replaced by a new one.",
    },
]
PREDICT = "Classify or transcribe one or several inputs"
BINARY: Object = {"schema": {"type": "string", "format": "binary"}}


def _examples(**bodies: Object | str) -> Object:
    """Return examples, each named after the modality of the models that it fits."""
    return {name: {"value": body} for name, body in bodies.items()}


PREDICT_BODY: Object = {
    "required": True,
    "content": {
        "application/json": {
            "schema": ref("PredictRequest"),
            "examples": _examples(
                text={"text": SENTENCE, "top_k": 2},
                text_instances={"instances": [SENTENCE, {"text": "The striker scored twice."}]},
                image={"image": PICTURE},
                image_instances={
                    "instances": [PICTURE, {"image": f"data:image/png;base64,{PICTURE}"}],
                    "top_k": 2,
                },
            ),
        },
        "text/plain": {
            "schema": {"type": "string", "minLength": 1},
            "examples": _examples(text=SENTENCE),
        },
        "multipart/form-data": {
            "schema": ref("PredictForm"),
            "examples": _examples(text={"text": SENTENCE, "top_k": 2}),
        },
        "image/*": BINARY,
        "audio/*": BINARY,
        "application/octet-stream": BINARY,
    },
}


CREDENTIALS = ("unauthorized", "forbidden", "rate_limited")
"""What becomes of a request with no key, another's key, or too many with one."""
REFUSALS = (
    *CREDENTIALS,
    "malformed_request",
    "model_not_found",
    "unsupported_media",
    "invalid_input",
    "queue_full",
    "deadline_unmeetable",
    "inference_failed",
    "draining",
    "model_not_ready",
    "deadline_exceeded",
)
"""What may become of a request for an inference."""


def predict(
    operation: str, *path: Object, summary: str = PREDICT, schema: str = "Predictions"
) -> Object:
    """Return the operation object of a predict route."""
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["predict"],
        "parameters": [*path, *OPTIONS],
        "requestBody": PREDICT_BODY,
        "responses": {
            "200": answer(
                "An answer for each instance, in order.",
                schema,
                headers=HEADERS | MODEL_HEADERS,
            ),
            **problems(*REFUSALS),
        },
    }


LABEL: Object = {
    "name": "label",
    "in": "query",
    "schema": STRING,
    "description": "What to explain; the most probable label if left out.",
}
METHOD: Object = {
    "name": "method",
    "in": "query",
    "schema": {"enum": list(METHODS), "default": METHODS[0]},
    "description": "How to explain; the card lists in `explanations` what the model has.",
}
EXPLAIN_BODY: Object = {
    "required": True,
    "description": "One image or text, in any form that predict takes.",
    "content": {
        media: body for media, body in PREDICT_BODY["content"].items() if media != "audio/*"
    }
    | {
        "application/json": {
            "schema": ref("PredictRequest"),
            "examples": _examples(
                text={"text": SENTENCE},
                image={"image": PICTURE},
                image_instances={"instances": [PICTURE]},
            ),
        },
        "multipart/form-data": {
            "schema": ref("PredictForm"),
            "examples": _examples(text={"text": SENTENCE}),
        },
    },
}


def explain(operation: str, *path: Object) -> Object:
    """Return the operation object of an explain route."""
    success = answer(
        "How much each place, or each word, matters to the label; a picture of it if asked.",
        "Explanation",
        headers=HEADERS | MODEL_HEADERS,
    )
    success["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "operationId": operation,
        "summary": "Explain the answer to one image or text",
        "tags": ["explain"],
        "parameters": [*path, LABEL, METHOD, *OPTIONS[1:]],
        "requestBody": EXPLAIN_BODY,
        "responses": {"200": success, **problems(*REFUSALS)},
    }


def read(
    operation: str,
    tag: str,
    summary: str,
    success: Object,
    *codes: str,
    path: Iterable[Object] = (),
) -> Object:
    """Return the operation object of a route that only reads."""
    return {
        "operationId": operation,
        "summary": summary,
        "tags": [tag],
        "parameters": [*path],
        "responses": {"200": success, **problems(*codes)},
    }
