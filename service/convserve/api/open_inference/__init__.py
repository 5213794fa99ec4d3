"""Open Inference Protocol v2 over REST, with Triton's extensions that its clients call.

https://github.com/kserve/open-inference-protocol and, for the binary tensors and the rest,
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""
