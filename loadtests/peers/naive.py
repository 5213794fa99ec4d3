"""What one writes first: FastAPI around ONNX Runtime."""

import os

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from loadtests.peers.classifier import Classifier

app = FastAPI()
classifier = Classifier()


def answer(body: bytes) -> dict[str, float]:
    """Return the probability of every label."""
    return classifier.classify([classifier.decode(body)])[0]


@app.post("/predict")
async def predict(request: Request) -> dict[str, float]:
    """Answer a picture."""
    return await run_in_threadpool(answer, await request.body())


@app.get("/ready")
def ready() -> str:
    """Say that it is up."""
    return "ready"


if __name__ == "__main__":
    uvicorn.run(
        "loadtests.peers.naive:app",
        port=int(os.environ["CONVSERVE_PORT"]),
        workers=int(os.environ.get("WORKERS", "1")),
        access_log=False,
        log_level="warning",
    )
