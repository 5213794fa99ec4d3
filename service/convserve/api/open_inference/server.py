"""What the protocol tells of the server and its models: metadata, configuration, statistics."""

from importlib.metadata import version

import orjson
from starlette.requests import Request
from starlette.responses import Response

from convserve.api.written import Written
from convserve.manifest import Tensor
from convserve.repository import Repository
from convserve.served_model import ServedModel
from convserve.settings import Settings

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
]
PLATFORM = "onnxruntime_onnx"
TYPES = {"BYTES": "TYPE_STRING"}


async def server(request: Request) -> Response:
    """Name the server and what it knows beyond the protocol."""
    return _json({"name": "convserve", "version": version("convserve"), "extensions": EXTENSIONS})


async def model(request: Request) -> Response:
    """Tell a model's inputs and outputs; the batch is the first axis, −1."""
    found = await _model(request)
    repository: Repository = request.app.repository
    manifest = found.artifact.manifest
    return _json(
        {
            "name": found.id,
            "versions": [entry.version for entry in repository.entries.versions(found.id)],
            "platform": PLATFORM,
            "inputs": [_metadata(tensor) for tensor in manifest.inputs],
            "outputs": [_metadata(tensor) for tensor in manifest.outputs],
        }
    )


async def ready(request: Request) -> Response:
    """Answer 200 if the model answers; one that loads on first use is loaded."""
    found = await _model(request)
    return _json({"name": found.id, "ready": True})


async def config(request: Request) -> Response:
    """Tell the model's configuration as Triton does: dims without the batch axis."""
    settings: Settings = request.app.settings
    found = await _model(request)
    manifest = found.artifact.manifest
    return _json(
        {
            "name": found.id,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": settings.max_instances,
            "input": [_config(tensor) for tensor in manifest.inputs],
            "output": [_config(tensor) for tensor in manifest.outputs],
            "dynamic_batching": {"preferred_batch_size": [found.max_batch_size]},
        }
    )


async def statistics(request: Request) -> Response:
    """Tell what was answered since the model was loaded, and where the time went."""
    repository: Repository = request.app.repository
    name, number = request.path_params.get("name"), request.path_params.get("version")
    names = repository.entries.names() if name is None else [name]
    entries = [entry for found in names for entry in repository.entries.versions(found)]
    if number is not None:
        entries = [repository.entries.find(names[0], number)]
    return _json(
        {
            "model_stats": [
                {"name": entry.id, "version": entry.version}
                | entry.model.metrics.statistics.summary()
                for entry in entries
                if entry.model
            ]
        }
    )


async def _model(request: Request) -> ServedModel:
    repository: Repository = request.app.repository
    return await repository.get(**request.path_params)


def _metadata(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [-1, *tensor.shape[1:]]}


def _config(tensor: Tensor) -> dict[str, object]:
    kind = TYPES.get(tensor.datatype, f"TYPE_{tensor.datatype}")
    return {"name": tensor.name, "data_type": kind, "dims": tensor.shape[1:]}


def _json(content: object) -> Response:
    return Written(orjson.dumps(content))
