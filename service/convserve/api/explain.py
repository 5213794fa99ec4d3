"""POST /v1/models/{name}/explain: which parts of an input its answer hangs on."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from convserve import explanation
from convserve.api.bodies import Instance, reader_of
from convserve.api.headers import header
from convserve.api.reading import deadline as read_deadline
from convserve.api.reading import read_body
from convserve.api.together import together
from convserve.api.written import Written
from convserve.engine.memory import Hold
from convserve.engine.waiting import Priority
from convserve.errors import CallerError, InvalidInput, UnsupportedMedia
from convserve.explanation import Span
from convserve.graphs import MAPS
from convserve.manifest import Characters
from convserve.preprocess.prepared import Prepared
from convserve.repository import Repository
from convserve.served_model import OCCLUSION, ServedModel
from convserve.settings import Settings, suggestion
from convserve.telemetry import Trace

Found = dict[str, Any]
Explainer = Callable[["Question", Prepared, float, int], Awaitable[Found]]

DIGITS = 6
PARAMETERS = ("label", "method")
PICTURE = "image/png"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one input, and the means to answer it."""

    model: ServedModel
    instance: Instance
    label: str | None
    method: str
    most: int
    deadline: float
    trace: Trace
    hold: Hold

    async def prepare(self, data: bytes) -> Prepared:
        """Return `data` as the model's input."""
        try:
            return await self.model.prepare(data, self.trace, self.hold, deadline=self.deadline)
        except CallerError as error:
            error.pointer = self.instance.pointer
            raise

    async def probabilities(self, item: Prepared) -> list[float]:
        """Return the probability of every label."""
        outputs = await self.model.outputs(
            item.inputs, self.trace, deadline=self.deadline, priority=Priority.LOW
        )
        return self.model.row(outputs)


async def explain(request: Request) -> Response:
    """Explain the answer to one instance."""
    repository: Repository = request.app.repository
    settings: Settings = request.app.settings
    trace: Trace = request.scope["trace"]
    _check_query(request)
    label, picture = request.query_params.get("label"), PICTURE in request.headers.get("accept", "")
    method = request.query_params.get("method", OCCLUSION)
    deadline = read_deadline(request.scope)
    model = await repository.get(request.path_params["name"], request.path_params.get("version"))
    trace.metrics = model.metrics
    with model.in_use, repository.memory.hold() as hold:
        _check(model, await model.methods(), label, method, picture)
        model.admit(deadline, Priority.LOW)
        body = await read_body(request, model, hold)
        instance = _instance(request, model, body)
        most = settings.explain_runs
        question = Question(model, instance, label, method, most, deadline, trace, hold)
        return await _answer(question, picture)


def _check_query(request: Request) -> None:
    for key in request.query_params:
        if key not in PARAMETERS:
            close = suggestion(key, PARAMETERS)
            raise InvalidInput(f"there is no query parameter {key[:100]!r}{close}", f"?{key}")


def _check(
    model: ServedModel, methods: Sequence[str], label: str | None, method: str, picture: bool
) -> None:
    if not methods:
        raise UnsupportedMedia("only labels of images and texts can be explained")
    if picture and model.modality != "image":
        raise UnsupportedMedia("only images are explained as image/png: accept application/json")
    if method not in methods:
        known = ", ".join(methods)
        raise InvalidInput(f"this model is not explained by {method[:100]!r}: {known}", "?method")
    if picture and method == MAPS:
        raise InvalidInput(f"{MAPS} are many pictures: accept application/json", "?method")
    if label is not None and label not in model.labels:
        close = suggestion(label, model.labels)
        raise InvalidInput(f"{label[:100]!r} is no label of this model{close}", "?label")


def _instance(request: Request, model: ServedModel, body: bytes) -> Instance:
    reader = reader_of(model.modality, 1)
    call = reader.read(header(request.scope, b"content-type") or "", body)
    if call.top_k is not None:
        raise InvalidInput("an explanation is about one label: leave top_k out", "/top_k")
    return call.instances[0]


async def _answer(question: Question, picture: bool) -> Response:
    subject = await question.prepare(question.instance.data)
    row = await question.probabilities(subject)
    labels = question.model.labels
    target = row.index(max(row)) if question.label is None else labels.index(question.label)
    facts = {
        "model": question.model.id,
        "version": question.model.version,
        "method": question.method,
        "label": labels[target],
        "probability": round(row[target], DIGITS),
    }
    explained = _explainer(question)
    found = await explained(question, subject, row[target], target)
    if picture:
        png = await asyncio.to_thread(explanation.overlay, _pixels(subject), found["map"])
        return Response(png, media_type=PICTURE)
    content = orjson.dumps(facts | found, option=orjson.OPT_SERIALIZE_NUMPY)
    return Written(content)


def _explainer(question: Question) -> Explainer:
    if question.method == OCCLUSION:
        return BY_OCCLUSION[question.model.modality]
    return _maps if question.method == MAPS else _by_graph


async def _maps(question: Question, subject: Prepared, *_: float) -> Found:
    found = await question.model.maps(subject.inputs, question.trace, deadline=question.deadline)
    layers = await asyncio.to_thread(lambda: [_layer(maps) for maps in found])
    return {"runs": 1, "layers": layers}


def _layer(maps: NDArray[Any]) -> Found:
    png = base64.b64encode(explanation.mosaic(maps)).decode()
    return {"shape": list(maps.shape), "picture": f"data:{PICTURE};base64,{png}"}


async def _by_graph(question: Question, subject: Prepared, _: float, target: int) -> Found:
    values = await question.model.explain(
        subject.inputs, question.method, target, question.trace, deadline=question.deadline
    )
    return {"runs": 1, "map": explanation.strongest(values)}


async def _image(question: Question, subject: Prepared, whole: float, target: int) -> Found:
    (name,) = subject.inputs
    pixels = _pixels(subject)
    height, width, _ = pixels.shape
    hidden = explanation.windows(height, width, question.most)
    copies = (Prepared({name: copy}, {}) for copy in explanation.covered(pixels, hidden))
    drops = [whole - p async for p in _scores(question, copies, target)]
    importance = explanation.heat((height, width), hidden, drops)
    return {"runs": len(hidden), "map": importance.round(DIGITS)}


async def _text(question: Question, subject: Prepared, whole: float, target: int) -> Found:
    text = question.instance.data.decode()[: _read_characters(question.model)]
    hidden = explanation.spans(text, question.most)
    data = (copy.encode() for copy in explanation.silenced(text, hidden))
    copies = [await question.prepare(copy) for copy in data]
    weights = [whole - p async for p in _scores(question, copies, target)]
    found = [_span(text, place, weight) for place, weight in zip(hidden, weights, strict=True)]
    return {"runs": len(hidden), "spans": found}


BY_OCCLUSION = {"image": _image, "text": _text}


async def _scores(
    question: Question, copies: Iterable[Prepared], target: int
) -> AsyncIterator[float]:
    """Yield the probability of the target for each copy; only one batch of them waits at once."""
    source: Iterator[Prepared] = iter(copies)
    while batch := list(islice(source, question.model.max_batch_size)):
        for row in await together(question.probabilities(copy) for copy in batch):
            yield row[target]


def _pixels(subject: Prepared) -> NDArray[Any]:
    (pixels,) = subject.inputs.values()
    return pixels


def _read_characters(model: ServedModel) -> int | None:
    """Return how many characters of a text the model reads at most, None if it reads all."""
    steps = model.artifact.manifest.preprocess.steps
    return next((step.length for step in steps if isinstance(step, Characters)), None)


def _span(text: str, place: Span, weight: float) -> dict[str, object]:
    start, end = place
    return {"start": start, "end": end, "text": text[start:end], "weight": round(weight, DIGITS)}
