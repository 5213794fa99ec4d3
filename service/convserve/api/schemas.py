"""The OpenAPI schemas: written by hand, because the routes are raw."""

from typing import Any

from convserve.api.problems import PROBLEMS

Object = dict[str, Any]

TOP_K: Object = {
    "type": "integer",
    "minimum": 1,
    "description": "How many labels `top` lists, or texts `alternatives`; at most the number of "
    "labels.",
}
BASE64: Object = {
    "type": "string",
    "format": "byte",
    "description": "The encoded image (JPEG, PNG, WebP, BMP, GIF, TIFF) as base64 or data URL.",
}
AUDIO: Object = {
    "type": "string",
    "description": "The encoded sound (WAV, FLAC, OGG) as base64 or data URL.",
}
CEPSTRA: Object = {
    "type": "string",
    "description": "Cepstra [length, coefficients] as numpy.save writes them, as base64.",
}
INSTANCE: Object = {
    "oneOf": [
        {"type": "string", "description": "A text, or anything else as base64 or data URL."},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["text"],
            "properties": {"text": {"type": "string", "minLength": 1}},
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["image"],
            "properties": {"image": BASE64},
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["audio"],
            "properties": {"audio": AUDIO},
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["cepstra"],
            "properties": {"cepstra": CEPSTRA},
        },
    ]
}


def ref(name: str) -> Object:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _one_of(key: str, value: Object) -> Object:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [key],
        "properties": {key: value, "top_k": TOP_K},
    }


def _object(required: str, /, **properties: Object) -> Object:
    return {"type": "object", "required": required.split(), "properties": properties}


def _nullable(kind: str, description: str) -> Object:
    return {"type": [kind, "null"], "description": description}


STRING: Object = {"type": "string"}
PROBABILITY: Object = {"type": "number", "minimum": 0, "maximum": 1}
STATE: Object = {"enum": ["available", "loading", "ready", "failed", "unloaded"]}
METHODS = ("occlusion", "cam", "gradient", "deconvnet", "guided", "maps")
MODEL: Object = _object(
    "name title task modality explanations required version state reason versions",
    name=STRING,
    title=_nullable("string", "What a person calls it."),
    task=_nullable("string", "What it does: classification, transcription …"),
    modality=_nullable("string", "What it takes: image, text, audio, cepstra or tensor."),
    explanations={
        "type": ["array", "null"],
        "items": {"enum": list(METHODS)},
        "description": "How its answers can be explained; null while it is not loaded.",
    },
    required={"type": "boolean", "description": "The service is ready only when this model is."},
    version={"type": "string", "description": "The latest version."},
    state=STATE,
    reason=_nullable("string", "Why the model is not served, if it failed."),
    versions={"type": "array", "items": ref("Version")},
)

COMPONENTS: dict[str, Object] = {
    "PredictRequest": {
        "oneOf": [
            _one_of("text", {"type": "string", "minLength": 1}),
            _one_of("image", BASE64),
            _one_of("audio", AUDIO),
            _one_of("cepstra", CEPSTRA),
            _one_of("instances", {"type": "array", "minItems": 1, "items": INSTANCE}),
        ]
    },
    "PredictForm": {
        "type": "object",
        "description": "One or several fields of one kind, each any number of times; `file` and "
        "`files` are what the model takes: raw images, sounds or NumPy files, UTF-8 text.",
        "properties": {
            "image": {"type": "string", "format": "binary"},
            "file": {"type": "string", "format": "binary"},
            "files": {"type": "string", "format": "binary"},
            "data": {"type": "string", "format": "binary", "description": "As `file`."},
            "audio": {"type": "string", "format": "binary"},
            "cepstra": {"type": "string", "format": "binary"},
            "text": {"type": "string"},
            "top_k": TOP_K,
        },
    },
    "Ranked": _object("label probability", label=STRING, probability=PROBABILITY),
    "Prediction": {"oneOf": [ref("Classification"), ref("Transcription")]},
    "Classification": _object(
        "label probability top",
        label={"type": "string", "description": "The most probable label."},
        probability=PROBABILITY,
        top={"type": "array", "items": ref("Ranked"), "description": "Most probable first."},
        set={
            "type": "array",
            "items": STRING,
            "description": "Conformal set: holds the true label with the coverage that the "
            "model's card states.",
        },
        in_distribution={
            "type": "boolean",
            "description": "false: unlike the inputs that the model was trained on; only of models "
            "that can tell.",
        },
        truncated={"type": "boolean", "description": "The text was longer than the model reads."},
        unknown_characters={
            "type": "integer",
            "description": "Characters, white space aside, that the model does not know.",
        },
    ),
    "Transcription": _object(
        "transcript score characters",
        transcript=STRING,
        score={
            "type": "number",
            "description": "Natural logarithm of the probability of the best path, or, with "
            "`top_k`, of the text.",
        },
        characters={"type": "array", "items": ref("Character")},
        alternatives={
            "type": "array",
            "items": ref("Alternative"),
            "description": "With `top_k`: the most probable texts first (prefix beam search).",
        },
        seconds={"type": "number", "description": "How long the sound lasts."},
    ),
    "Character": _object(
        "character start end probability",
        character=STRING,
        start={"type": "number", "description": "Seconds from the beginning."},
        end={"type": "number", "description": "Seconds from the beginning."},
        probability=PROBABILITY,
    ),
    "Alternative": _object("transcript score", transcript=STRING, score={"type": "number"}),
    "Predictions": _object(
        "model version predictions",
        model=STRING,
        version=STRING,
        predictions={"type": "array", "items": ref("Prediction")},
    ),
    "LabelProbabilities": {
        "oneOf": [
            ref("Brief"),
            {"type": "array", "items": ref("Brief")},
        ]
    },
    "Brief": {
        "oneOf": [
            {"type": "object", "additionalProperties": PROBABILITY},
            {"type": "string", "description": "What was said."},
        ]
    },
    "Ping": _object("status", status={"const": "Healthy"}),
    "Explanation": {
        **_object(
            "model version method label probability runs",
            model=STRING,
            version=STRING,
            method={"enum": list(METHODS)},
            label={"type": "string", "description": "What is explained."},
            probability=PROBABILITY,
            runs={"type": "integer", "description": "How often it was run."},
            map={
                "type": "array",
                "items": {"type": "array", "items": {"type": "number"}},
                "description": "For an image: [height, width] of the model's input; what the place "
                "matters by the method. Of occlusion, by how much the probability falls when it is "
                "hidden.",
            },
            spans={
                "type": "array",
                "items": ref("Span"),
                "description": "For a text: the same for its words, joined if they are many.",
            },
            layers={
                "type": "array",
                "items": ref("Layer"),
                "description": "By `maps`, which is about no label: what each convolution answers "
                "to the image, in the order of the network.",
            },
        ),
        "oneOf": [{"required": ["map"]}, {"required": ["spans"]}, {"required": ["layers"]}],
    },
    "Layer": _object(
        "shape picture",
        shape={
            "type": "array",
            "items": {"type": "integer"},
            "description": "Of its maps: [channels, height, width].",
        },
        picture={
            "type": "string",
            "description": "A data URL of a PNG with the maps, at most 64 of them, each at most 64 "
            "pixels wide and high, in 16 columns; white is the layer's largest value, black is 0, "
            "grey the square root.",
        },
    ),
    "Span": _object(
        "start end text weight",
        start={"type": "integer", "description": "In code points of the text that was sent."},
        end={"type": "integer", "description": "The first code point behind it."},
        text=STRING,
        weight={"type": "number", "description": "By how much the probability falls without it."},
    ),
    "Version": _object(
        "version state reason",
        version=STRING,
        state=STATE,
        reason=_nullable("string", "Why it is not served, if it failed."),
    ),
    "Model": MODEL,
    "Models": _object("models", models={"type": "array", "items": ref("Model")}),
    "Card": {
        "allOf": [
            ref("Model"),
            _object(
                "precision cost execution manifest",
                precision={"anyOf": [ref("Precision"), {"type": "null"}]},
                cost={"type": "array", "items": ref("Cost")},
                execution={"anyOf": [ref("Execution"), {"type": "null"}]},
                manifest=_nullable("object", "The artifact's manifest."),
            ),
        ]
    },
    "Cost": _object(
        "shapes batch_size seconds n",
        shapes={
            "type": "array",
            "items": {"type": "array", "items": {"type": "integer"}},
            "description": "The inputs' shapes, without the batch axis.",
        },
        batch_size={"type": "integer", "minimum": 1},
        seconds={"type": "number", "description": "What a run of such a batch takes now."},
        n={"type": "integer", "minimum": 1, "description": "How many runs were measured."},
    ),
    "Precision": _object(
        "graph reason",
        graph={"enum": ["float", "int8"], "description": "Which of its graphs answers."},
        reason={"type": "string", "description": "Why."},
    ),
    "Execution": _object(
        "batch_size layout reason trials",
        batch_size={
            "type": "integer",
            "minimum": 1,
            "description": "Inputs that share a run at most: more would gain less than 5 %.",
        },
        layout=ref("Layout"),
        reason={"type": "string"},
        trials={"type": "array", "items": ref("Trial")},
    ),
    "Layout": _object(
        "executors threads",
        executors={"type": "integer", "minimum": 1, "description": "Runs at once."},
        threads={"type": "integer", "minimum": 1, "description": "Threads of each."},
    ),
    "Trial": _object(
        "layout batch_size items_per_second",
        layout=ref("Layout"),
        batch_size={"type": "integer", "minimum": 1},
        items_per_second={"type": "number"},
    ),
    "Live": _object("live", live={"const": True}),
    "Ready": _object("ready live", ready={"const": True}, live={"const": True}),
    "Index": _object("service models docs openapi metrics", service=STRING),
    "ProblemType": _object(
        "code status title cause remedy",
        code=STRING,
        status={"type": "integer"},
        title=STRING,
        cause=STRING,
        remedy=STRING,
    ),
    "Problem": _object(
        "type title status detail instance code request_id errors error",
        type={"type": "string", "format": "uri-reference", "description": "Page on the problem."},
        title=STRING,
        status={"type": "integer"},
        detail=STRING,
        instance={"type": "string", "description": "The path that was asked."},
        code={"enum": list(PROBLEMS)},
        request_id=STRING,
        errors={
            "type": "array",
            "items": _object(
                "pointer code detail",
                pointer={
                    "type": "string",
                    "description": "JSON pointer into the body, or ?name for a query parameter.",
                },
                code=STRING,
                detail=STRING,
            ),
        },
        error={"type": "string", "description": "Same as detail, for OIP clients."},
    ),
}
