"""What Locust asks while models are reloaded: all is answered, and never by a bad version."""

from typing import Any

from locust import FastHttpUser, constant, task

from tests.artifacts import IMAGE, SIDE, TEXT, picture
from tests.conformance.versions import FIRST_BAD

PICTURE = picture(SIDE, SIDE)


class Asking(FastHttpUser):
    wait_time = constant(0.01)

    @task
    def text(self) -> None:
        self.ask(TEXT, b"goal", "text/plain")

    @task
    def image(self) -> None:
        self.ask(IMAGE, PICTURE, "image/png")

    def ask(self, model: str, body: bytes, media: str) -> None:
        path, headers = f"/v1/models/{model}/predict", {"Content-Type": media}
        client: Any = self.client  # typed as if bodies were text
        with client.post(path, data=body, headers=headers, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {response.text}")
            elif int(response.json()["version"]) >= FIRST_BAD:
                response.failure("answered by a corrupt version")
