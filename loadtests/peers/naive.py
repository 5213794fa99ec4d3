"""What one writes first: FastAPI around ONNX Runtime with its defaults.

`python -m loadtests.peers.naive GRAPH SIDE LABELS THREADS` serves a graph that takes uint8
[N, SIDE, SIDE, 3] and gives probabilities, at the path that convserve has. THREADS 0 leaves ONNX
Runtime's default: one thread for each core that the machine shows.
"""

import os
import sys
from io import BytesIO

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

path, side, labels, threads = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(","), sys.argv[4]
options = ort.SessionOptions()
options.intra_op_num_threads = int(threads)
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
app = FastAPI()


def classify(body: bytes) -> dict[str, float]:
    """Return the probability of every label."""
    picture = Image.open(BytesIO(body)).convert("RGB").resize((side, side))
    row = session.run(None, {name: np.asarray(picture)[None]})[0][0]
    return dict(zip(labels, row.tolist(), strict=True))


@app.post("/v1/models/{model}/predict")
async def predict(model: str, request: Request) -> dict[str, float]:
    """Answer a picture."""
    return await run_in_threadpool(classify, await request.body())


@app.get("/readyz")
def ready() -> str:
    """Say that it is up."""
    return "ready"


if __name__ == "__main__":
    port = int(os.environ["CONVSERVE_PORT"])
    uvicorn.run(app, port=port, access_log=False, log_level="warning")
