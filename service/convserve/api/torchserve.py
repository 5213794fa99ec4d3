"""The inference routes of TorchServe: label → probability or a transcript, and a probe."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from convserve.api.predict import ask
from convserve.api.written import Written
from convserve.repository import Repository


async def predictions(request: Request) -> Response:
    """Answer with the most probable labels; with a list of them if there are several inputs."""
    _, found = await ask(request)
    answers = [_brief(answer) for answer in found]
    content = answers if len(answers) > 1 else answers[0]
    return Written(orjson.dumps(content))


def _brief(answer: dict[str, Any]) -> dict[str, float] | str:
    """Return the probability of each label, or what was said."""
    if "transcript" in answer:
        return str(answer["transcript"])
    return {entry["label"]: entry["probability"] for entry in answer["top"]}


async def ping(request: Request) -> Response:
    """Answer 200 only if the service is ready."""
    repository: Repository = request.app.repository
    repository.check_ready()
    return Written(b'{"status":"Healthy"}')
