"""MLServer: two workers of one thread, batches of 8 or after 10 ms, the picture in base64."""

import asyncio
import os

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtests.peers.classifier import Classifier


class Inference(MLModel):
    """Decodes and classifies."""

    async def load(self) -> bool:
        """Load the graph in each worker."""
        self._classifier = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch."""
        bodies = Base64Codec.decode_input(payload.inputs[0])
        rows = self._classifier.probabilities([self._classifier.decode(body) for body in bodies])
        outputs = [NumpyCodec.encode_output("probabilities", rows)]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def serve() -> None:
    """Serve until SIGTERM."""
    port = int(os.environ["CONVSERVE_PORT"])
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=0,
        metrics_endpoint=None,
        parallel_workers=2,
        debug=False,  # logs every request otherwise
    )
    model = ModelSettings(
        name="classifier",
        implementation="loadtests.peers.mlserver_server.Inference",
        max_batch_size=8,
        max_batch_time=0.01,
    )
    await MLServer(settings).start(models_settings=[model])


if __name__ == "__main__":
    asyncio.run(serve())
