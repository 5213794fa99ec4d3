"""The shipped picture artifacts explain themselves as captum would."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from captum.attr import Deconvolution, GuidedBackprop, Saliency
from onnx import numpy_helper
from torch import nn

from convserve_models import reference
from convserve_models.zoo.all_cnn import AllCNN

ARTIFACT = Path(__file__).parents[2] / "models" / "store" / "all_cnn_cifar10" / "1"
STEPS: list[dict[str, Any]] = [
    {"op": "decode"},
    {"op": "resize", "shorter": 32, "filter": "bilinear"},
    {"op": "center_crop", "size": [32, 32]},
]


def test_the_shipped_picture_artifacts_carry_their_maps() -> None:
    """One after the other, as large as the pyramid says."""
    artifacts = [path.parent for path in ARTIFACT.parents[1].glob("*/1/explain.onnx")]
    assert len(artifacts) >= 2
    for artifact in artifacts:
        card = json.loads((artifact / "manifest.json").read_text())
        file = artifact / card["graphs"]["features"]["file"]
        session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        picture = reference.image((artifact / "samples" / "cat.png").read_bytes(), STEPS)
        found = session.run(None, {"image": picture[None]})
        convolutions = [row for row in card["pyramid"] if row["kind"] == "convolution"]
        assert [list(maps.shape[1:]) for maps in found] == [row["shape"] for row in convolutions]


def read_back() -> tuple[nn.Module, torch.Tensor, torch.Tensor, float]:
    """The network from the file's weights, its mean, deviation and temperature."""
    graph = onnx.load(ARTIFACT / "model.onnx").graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    network = AllCNN(10, width=len(held[convolutions[0].input[1]]) / 96)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for layer, node in zip(layers, convolutions, strict=True):
        _, weight, bias = (held.get(name) for name in node.input)
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    (softmax,) = (node for node in graph.node if node.op_type == "Softmax")
    (scale,) = (node for node in graph.node if softmax.input[0] in node.output)
    temperature = held[scale.input[1]].item()
    mean, std = (torch.tensor(held[f"network.0.{name}"]) for name in ("mean", "std"))
    return network.eval(), mean, std, temperature


def test_all_cnn_says_what_captum_says_of_its_weights() -> None:
    network, mean, std, temperature = read_back()
    session = ort.InferenceSession(ARTIFACT / "explain.onnx", providers=["CPUExecutionProvider"])
    samples = sorted((ARTIFACT / "samples").glob("*.[pj][np]g"))
    assert samples
    pictures = np.stack([reference.image(path.read_bytes(), STEPS) for path in samples])
    targets = list(range(len(samples)))
    feed = {"image": pictures, "target": np.array(targets)}
    pixels = ((torch.from_numpy(pictures).float() - mean) / std).permute(0, 3, 1, 2)
    pixels.requires_grad_()
    for method, oracle in (
        ("gradient", Saliency),
        ("deconvnet", Deconvolution),
        ("guided", GuidedBackprop),
    ):
        (found,) = session.run([method], feed)
        further = {"abs": False} if method == "gradient" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum's, about its own hooks
            said = oracle(network).attribute(pixels, target=targets, **further)
        expected = (said.detach().permute(0, 2, 3, 1) / std / temperature).numpy()
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found / largest, expected / largest, atol=1e-4)
