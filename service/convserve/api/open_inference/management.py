"""The model repository extension: what there is, load, unload."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from convserve.api.written import Written
from convserve.repository import Repository

STATES = {"ready": "READY", "loading": "LOADING"}  # all others: UNAVAILABLE


async def index(request: Request) -> Response:
    """List every version of every model."""
    repository: Repository = request.app.repository
    entries = [
        entry for name in repository.entries.names() for entry in repository.entries.versions(name)
    ]
    return _json(
        [
            {
                "name": entry.id,
                "version": entry.version,
                "state": STATES.get(entry.state, "UNAVAILABLE"),
                "reason": entry.fault or ("" if entry.model else entry.state),
            }
            for entry in entries
        ]
    )


async def load(request: Request) -> Response:
    """Take up a model as it is in the store now."""
    repository: Repository = request.app.repository
    await repository.load(request.path_params["name"])
    return _json({})


async def unload(request: Request) -> Response:
    """Let go of all versions of a model, until it is loaded again."""
    repository: Repository = request.app.repository
    await repository.unload(request.path_params["name"])
    return _json({})


def _json(content: object) -> Response:
    return Written(orjson.dumps(content))
