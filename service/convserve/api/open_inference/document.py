"""The protocol's part of the OpenAPI document."""

from convserve.api.operations import (
    HEADERS,
    MODEL_HEADERS,
    NAME,
    OPTIONS,
    REFUSALS,
    VERSION,
    answer,
    errors,
)
from convserve.api.schemas import STRING, Object, ref

SIZES: Object = {"type": "array", "items": {"type": "integer", "minimum": -1}}
COUNT: Object = {"type": "integer", "minimum": 0}
PARAMETERS: Object = {
    "type": "object",
    "properties": {
        "timeout": COUNT | {"description": "Microseconds after which the answer is worthless."},
        "priority": COUNT | {"description": "1 is the highest; 2 and more wait for all others."},
        "binary_data_output": {"type": "boolean", "description": "Outputs come as raw bytes."},
    },
}
DATATYPE: Object = {
    "enum": [
        "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
        "FP16", "FP32", "FP64", "BYTES",
    ]
}  # fmt: skip
INFER_HEADERS: Object = {
    name: {"schema": STRING} for name in ("Inference-Header-Content-Length", "Content-Encoding")
}


def _object(required: str, /, **properties: Object) -> Object:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(name: str) -> Object:
    return {"type": "array", "items": ref(name)}


COMPONENTS: dict[str, Object] = {
    "InferenceError": _object("error", error=STRING),
    "Server": _object(
        "name version extensions",
        name=STRING,
        version=STRING,
        extensions={"type": "array", "items": STRING},
    ),
    "TensorMetadata": _object("name datatype shape", name=STRING, datatype=DATATYPE, shape=SIZES),
    "ModelMetadata": _object(
        "name versions platform inputs outputs",
        name=STRING,
        versions={"type": "array", "items": STRING},
        platform=STRING,
        inputs=_list("TensorMetadata"),
        outputs=_list("TensorMetadata"),
    ),
    "ModelReady": _object("name ready", name=STRING, ready={"const": True}),
    "TensorConfig": _object(
        "name data_type dims",
        name=STRING,
        data_type={"type": "string", "pattern": "^TYPE_"},
        dims=SIZES,
    ),
    "ModelConfig": _object(
        "name platform backend max_batch_size input output",
        name=STRING,
        platform=STRING,
        backend=STRING,
        max_batch_size=COUNT,
        input=_list("TensorConfig"),
        output=_list("TensorConfig"),
    ),
    "RepositoryIndex": {
        "type": "array",
        "items": _object(
            "name version state reason",
            name=STRING,
            version=STRING,
            state={"enum": ["READY", "LOADING", "UNAVAILABLE"]},
            reason=STRING,
        ),
    },
    "Done": {"type": "object", "maxProperties": 0},
    "Duration": _object("count ns", count=COUNT, ns=COUNT),
    "BatchStatistics": _object(
        "batch_size compute_input compute_infer compute_output",
        batch_size=COUNT,
        compute_input=ref("Duration"),
        compute_infer=ref("Duration"),
        compute_output=ref("Duration"),
    ),
    "Statistics": _object(
        "name version last_inference inference_count execution_count inference_stats batch_stats",
        name=STRING,
        version=STRING,
        last_inference=COUNT | {"description": "Milliseconds since 1970."},
        inference_count=COUNT,
        execution_count=COUNT,
        inference_stats={"type": "object", "additionalProperties": ref("Duration")},
        batch_stats=_list("BatchStatistics"),
    ),
    "ModelStatistics": _object("model_stats", model_stats=_list("Statistics")),
    "InferTensor": _object(
        "name shape datatype data",
        name={"type": "string", "description": "A name from the model's metadata."},
        shape={
            "type": "array",
            "items": COUNT,
            "minItems": 1,
            "description": "The batch first: as the model's metadata say. Encoded images or "
            "texts, as BYTES, have the shape [n, 1].",
        },
        datatype=DATATYPE,
        data={
            "type": "array",
            "description": "The values, row by row, nested or flat; images in BYTES as base64.",
        },
        parameters={"type": "object"},
    ),
    "InferRequest": _object(
        "inputs",
        id={"type": "string", "description": "Comes back with the answer."},
        inputs={"type": "array", "minItems": 1, "items": ref("InferTensor")},
        outputs={
            "type": "array",
            "items": _object(
                "name",
                name=STRING,
                parameters={
                    "type": "object",
                    "properties": {
                        "binary_data": {"type": "boolean"},
                        "classification": COUNT | {"description": "Only the so many best."},
                    },
                },
            ),
            "description": "Which outputs are wanted; none given: all.",
        },
        parameters=PARAMETERS,
    ),
    "InferResponse": _object(
        "model_name model_version outputs",
        model_name=STRING,
        model_version=STRING,
        id=STRING,
        outputs={
            "type": "array",
            "items": _object(
                "name shape datatype",
                name=STRING,
                shape={"type": "array", "items": COUNT},
                datatype=DATATYPE,
                data={"type": "array"},
                parameters={"type": "object"},
            ),
        },
    ),
}

LENGTH: Object = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "schema": {"type": "integer", "minimum": 0},
    "description": "How many bytes of the body are JSON; binary tensors follow. With 0 the body is "
    "the one input: its raw rows, or an encoded image or text if the Content-Type says so.",
}
INFER_BODY: Object = {
    "required": True,
    "content": {
        "application/json": {"schema": ref("InferRequest")},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


def read(operation: str, summary: str, schema: str, *codes: str, path: list[Object]) -> Object:
    """Return the operation object of a route that only reads."""
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["open inference protocol"],
        "parameters": path,
        "responses": {"200": answer(summary, schema), **errors(*codes)},
    }


def infer(operation: str, path: list[Object]) -> Object:
    """Return the operation object of an infer route."""
    headers = HEADERS | MODEL_HEADERS
    success = answer("The outputs.", "InferResponse", headers=headers)
    binary: Object = {"schema": {"type": "string", "format": "binary"}}
    success["content"]["application/octet-stream"] = binary
    return {
        "operationId": operation,
        "summary": "Run a model on tensors, or on encoded images or texts",
        "tags": ["open inference protocol"],
        "parameters": [*path, LENGTH, *OPTIONS[1:]],
        "requestBody": INFER_BODY,
        "responses": {"200": success, **errors(*REFUSALS)},
    }


NAMED: list[Object] = [NAME]
VERSIONED: list[Object] = [NAME, VERSION]
