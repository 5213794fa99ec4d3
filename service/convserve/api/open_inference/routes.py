"""The protocol's routes: method, path, handler, and what OpenAPI says of it."""

from collections.abc import Iterator

from convserve.api import health
from convserve.api.open_inference import management, server
from convserve.api.open_inference.document import NAMED, VERSIONED, infer, read
from convserve.api.open_inference.infer import infer as infer_handler
from convserve.api.operations import CREDENTIALS, Operation

MODEL = "/v2/models/{name}"
VERSION = "/v2/models/{name}/versions/{version}"
LOADING = ("model_not_found", "model_not_ready", *CREDENTIALS)


def _both_forms() -> Iterator[Operation]:
    for path, suffix, parameters in ((MODEL, "", NAMED), (VERSION, "Version", VERSIONED)):
        yield Operation("POST", f"{path}/infer", infer_handler, infer(f"infer{suffix}", parameters))
        for place, handler, name, schema, summary in (
            ("", server.model, "metadata", "ModelMetadata", "A model's inputs and outputs"),
            ("/ready", server.ready, "modelReady", "ModelReady", "Does the model answer?"),
            ("/config", server.config, "config", "ModelConfig", "A model's configuration"),
        ):
            document = read(f"{name}{suffix}", summary, schema, *LOADING, path=parameters)
            yield Operation("GET", f"{path}{place}", handler, document)
        document = read(
            f"stats{suffix}",
            "What a model did since it was loaded",
            "ModelStatistics",
            "model_not_found",
            *CREDENTIALS,
            path=parameters,
        )
        yield Operation("GET", f"{path}/stats", server.statistics, document)


TABLE = (
    Operation(
        "GET",
        "/v2",
        server.server,
        read("server", "Name and extensions", "Server", path=[]),
        "public",
    ),
    Operation(
        "GET",
        "/v2/health/live",
        health.live,
        read("live", "Is the process alive?", "Live", path=[]),
        "public",
    ),
    Operation(
        "GET",
        "/v2/health/ready",
        health.ready,
        read("ready", "May it be asked?", "Ready", "draining", "model_not_ready", path=[]),
        "public",
    ),
    # Before {name}, which it would fit.
    Operation(
        "GET",
        "/v2/models/stats",
        server.statistics,
        read("allStats", "What all models did", "ModelStatistics", *CREDENTIALS, path=[]),
    ),
    *_both_forms(),
    Operation(
        "POST",
        "/v2/repository/index",
        management.index,
        read(
            "repositoryIndex",
            "Every version of every model",
            "RepositoryIndex",
            *CREDENTIALS,
            path=[],
        ),
    ),
    Operation(
        "POST",
        "/v2/repository/models/{name}/load",
        management.load,
        read("load", "Take up a model as it is in the store now", "Done", *LOADING, path=NAMED),
        "management",
    ),
    Operation(
        "POST",
        "/v2/repository/models/{name}/unload",
        management.unload,
        read(
            "unload",
            "Let go of all versions of a model",
            "Done",
            "model_not_found",
            *CREDENTIALS,
            path=NAMED,
        ),
        "management",
    ),
)
