"""What this service can be asked: its models and their cards."""

from dataclasses import asdict

import orjson
from starlette.requests import Request
from starlette.responses import Response

from convserve.api.written import Written
from convserve.repository import Repository
from convserve.store import Entry


async def models(request: Request) -> Response:
    """List the models, each with its versions and their state."""
    repository: Repository = request.app.repository
    return _json(
        {"models": [await _model(repository, name) for name in repository.entries.names()]}
    )


async def card(request: Request) -> Response:
    """Tell all about the latest version of one model."""
    repository: Repository = request.app.repository
    name = request.path_params["name"]
    latest = repository.entries.find(name)
    manifest = latest.manifest and latest.manifest.model_dump(mode="json", exclude_unset=True)
    facts = {"cost": _cost(latest), "execution": _execution(latest), "manifest": manifest}
    facts["precision"] = asdict(latest.model.graphs.precision) if latest.model else None
    return _json({**await _model(repository, name), **facts})


async def _model(repository: Repository, name: str) -> dict[str, object]:
    latest = repository.entries.find(name)
    manifest = latest.manifest
    return {
        "name": name,
        "title": manifest.title if manifest else None,
        "task": manifest.task if manifest else None,
        "modality": manifest.preprocess.modality if manifest else None,
        "explanations": await _explanations(latest),
        "required": repository.required(name),
        "version": latest.version,
        "state": latest.state,
        "reason": latest.fault,
        "versions": [_version(entry) for entry in repository.entries.versions(name)],
    }


async def _explanations(entry: Entry) -> list[str] | None:
    if entry.model is None:
        return None
    with entry.model.in_use:
        return list(await entry.model.methods())


def _version(entry: Entry) -> dict[str, object]:
    return {"version": entry.version, "state": entry.state, "reason": entry.fault}


def _cost(entry: Entry) -> list[dict[str, object]]:
    curves = entry.model.cost.points() if entry.model else {}
    return [
        {"shapes": shapes, **asdict(point)} for shapes, curve in curves.items() for point in curve
    ]


def _execution(entry: Entry) -> dict[str, object] | None:
    """How its runs share the cores, what that was chosen from, and how many inputs share a run."""
    if entry.model is None:
        return None
    return {"batch_size": entry.model.batch_size, **asdict(entry.model.measured.choice)}


def _json(content: object) -> Response:
    return Written(orjson.dumps(content))
