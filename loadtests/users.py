"""The users of a closed loop: each waits for its answer before it asks again."""

import random
from typing import ClassVar

from locust import FastHttpUser, task
from locust.contrib.fasthttp import FastHttpSession, ResponseContextManager

from loadtests.samples import Sample, said


class ModelUser(FastHttpUser):
    """Asks the models of one modality for predictions.

    ``samples`` and ``wait_time`` are set before the start; Locust's ``--config-users`` changes a
    class's weight.
    """

    abstract = True
    modality: ClassVar[str]
    samples: ClassVar[list[Sample]]

    @task
    def predict(self) -> None:
        ask(self.client, random.choice(self.samples))


class ImageUser(ModelUser):
    """Sends encoded pictures."""

    modality = "image"


class TextUser(ModelUser):
    """Sends plain text."""

    modality = "text"


class AudioUser(ModelUser):
    """Sends encoded sounds."""

    modality = "audio"


class CepstraUser(ModelUser):
    """Sends NumPy files of cepstra."""

    modality = "cepstra"


MODALITIES: tuple[type[ModelUser], ...] = (ImageUser, TextUser, AudioUser, CepstraUser)


def ask(client: FastHttpSession, sample: Sample, waited: float = 0.0) -> None:
    """Send one sample, and count any other answer than 200 with a right one as a failure.

    ``waited`` is the time in seconds by which the request left later than it was due; the
    recorded latency includes it.
    """
    with client.post(
        f"/v1/models/{sample.model}/predict",
        data=sample.body,  # type: ignore[arg-type]  # bytes pass, the annotation is too narrow
        headers={"Content-Type": sample.media_type},
        name=sample.model,
        catch_response=True,
    ) as answer:
        answer.request_meta["response_time"] += waited * 1000
        if fault := _fault(answer, sample):
            answer.failure(fault)


def _fault(answer: ResponseContextManager, sample: Sample) -> str | None:
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    found = said(answer.json()["predictions"][0])
    return None if found in sample.answers else f"wrong answer {found!r}"
