"""The one table of routes: method, path, handler, and what OpenAPI says of it."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from convserve.api import catalog, health, pages, playground, torchserve
from convserve.api.access import Access, Handler, Right
from convserve.api.departure import abandoned_on_departure
from convserve.api.explain import explain as explain_handler
from convserve.api.open_inference import document as open_inference
from convserve.api.open_inference import routes as open_inference_routes
from convserve.api.open_inference.infer import infer as infer_handler
from convserve.api.operations import (
    CODE,
    CREDENTIALS,
    FILE,
    NAME,
    SAMPLE,
    TAG,
    VERSION,
    Operation,
    answer,
    explain,
    file,
    page,
    predict,
    raw,
    read,
)
from convserve.api.predict import predict as predict_handler
from convserve.api.schemas import COMPONENTS, Object

LIVE = answer("The process answers.", "Live")
READY = answer("Every required model may be asked.", "Ready")
UNREADY = ("draining", "model_not_ready")
PREDICT = "/v1/models/{name}/predict"
PREDICT_VERSION = "/v1/models/{name}/versions/{version}/predict"
EXPLAIN = "/v1/models/{name}/explain"
EXPLAIN_VERSION = "/v1/models/{name}/versions/{version}/explain"
PREDICT_TAG = "/v1/models/{name}/tags/{tag}/predict"
TORCHSERVE = ("/predictions/{name}", "/predictions/{name}/{version}")


KEYS: Object = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
SECURITY: dict[Right, list[Object]] = {
    "public": [],
    "inference": [{}, *({name: []} for name in KEYS)],  # keys are the operator's choice
    "management": [{name: []} for name in KEYS],
}


def _get(path: str, handler: Handler, document: Object, right: Right = "public") -> Operation:
    return Operation("GET", path, handler, document, right)


def _torchserve(method: str, path: str, operation: str, *parameters: Object) -> Operation:
    summary = "As TorchServe answers: label to probability"
    document = predict(operation, *parameters, summary=summary, schema="LabelProbabilities")
    return Operation(method, path, torchserve.predictions, document)


# The hot routes first: the router tries them in order.
TABLE = (
    Operation("POST", PREDICT, predict_handler, predict("predict", NAME)),
    Operation("POST", PREDICT_VERSION, predict_handler, predict("predictVersion", NAME, VERSION)),
    Operation("POST", EXPLAIN, explain_handler, explain("explain", NAME)),
    Operation("POST", EXPLAIN_VERSION, explain_handler, explain("explainVersion", NAME, VERSION)),
    Operation("POST", PREDICT_TAG, predict_handler, predict("predictTag", NAME, TAG)),
    *open_inference_routes.TABLE,
    # `curl -T picture.jpg`, which TorchServe's users type, is a PUT.
    _torchserve("POST", TORCHSERVE[0], "predictions", NAME),
    _torchserve("PUT", TORCHSERVE[0], "predictionsPut", NAME),
    _torchserve("POST", TORCHSERVE[1], "predictionsVersion", NAME, VERSION),
    _torchserve("PUT", TORCHSERVE[1], "predictionsVersionPut", NAME, VERSION),
    _get(
        "/ping",
        torchserve.ping,
        read("ping", "health", "As TorchServe answers", answer("Healthy.", "Ping"), *UNREADY),
    ),
    _get(
        "/v1/models",
        catalog.models,
        read("models", "models", "List the models", answer("All models.", "Models"), *CREDENTIALS),
        "inference",
    ),
    _get(
        "/v1/models/{name}",
        catalog.card,
        read(
            "model",
            "models",
            "The card of a model",
            answer("The model and its manifest.", "Card"),
            "model_not_found",
            *CREDENTIALS,
            path=[NAME],
        ),
        "inference",
    ),
    _get("/livez", health.live, read("livez", "health", "Same as /v2/health/live", LIVE)),
    _get(
        "/readyz",
        health.ready,
        read("readyz", "health", "Same as /v2/health/ready", READY, *UNREADY),
    ),
    _get(
        "/healthz",
        health.ready,
        read("healthz", "health", "Same as /v2/health/ready", READY, *UNREADY),
    ),
    _get(
        "/metrics",
        health.metrics,
        read("metrics", "health", "Metrics for Prometheus", raw("Metrics.", "text/plain")),
    ),
    _get("/", pages.index, read("index", "pages", "The playground", page("Links.", "Index"))),
    _get(
        "/static/{file}",
        playground.static,
        read(
            "static",
            "pages",
            "A file of the playground",
            file("The file.", "text/html", "text/javascript", "text/css", "image/svg+xml"),
            "not_found",
            path=[FILE],
        ),
    ),
    _get(
        "/v1/models/{name}/versions/{version}/samples/{sample}",
        playground.sample,
        read(
            "sample",
            "models",
            "A raw input that the artifact carries",
            file("The file.", "image/*", "text/plain", "audio/*"),
            "model_not_found",
            "not_found",
            *CREDENTIALS,
            path=[NAME, VERSION, SAMPLE],
        ),
        "inference",
    ),
    _get("/docs", pages.docs, read("docs", "pages", "This document, to read", page("Routes."))),
    _get(
        "/problems/{code}",
        pages.problem,
        read(
            "problem",
            "pages",
            "Cause and remedy of a problem",
            page("The problem.", "ProblemType"),
            "not_found",
            path=[CODE],
        ),
    ),
    _get(
        "/openapi.json",
        pages.openapi,
        read("openapi", "pages", "This document", raw("OpenAPI 3.1.", "application/json")),
    ),
)

WORKING = {predict_handler, torchserve.predictions, infer_handler, explain_handler}
"""Handlers that let a model run."""

ASKING = [entry for entry in TABLE if entry.handler in WORKING - {explain_handler}]
"""Those that begin by asking a model whether it has room."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A handler as an ASGI application; what it raises is for the Envelope to tell."""

    handler: Handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self.handler(Request(scope, receive, send))
        await response(scope, receive, send)


def routes(access: Access) -> list[BaseRoute]:
    """Return the table as Starlette routes, each behind the keys for what it does."""
    methods: dict[tuple[str, Handler, Right], list[str]] = {}
    for entry in TABLE:
        methods.setdefault((entry.path, entry.handler, entry.right), []).append(entry.method)
    return [
        Route(path, Endpoint(access.guard(_watched(handler), right)), methods=found)
        for (path, handler, right), found in methods.items()
    ]


def _watched(handler: Handler) -> Handler:
    """Return a handler whose work nobody wants any more when its client has left."""
    return abandoned_on_departure(handler) if handler in WORKING else handler


@cache
def document() -> Object:
    """Return the OpenAPI document of the table."""
    paths: Object = {}
    for entry in TABLE:
        operation = {**entry.document, "security": SECURITY[entry.right]}
        paths.setdefault(entry.path, {})[entry.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "convserve",
            "version": version("convserve"),
            "description": "Serves convolutional networks.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": COMPONENTS | open_inference.COMPONENTS,
            "securitySchemes": KEYS,
        },
    }
