"""The explaining graph says what captum says, for every network of the zoo that takes pictures."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop, LayerGradCam, Saliency
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn

from convserve_models import beside, explain, features, graph, zoo
from convserve_models.adjoint import Adjoint, NoAdjoint
from convserve_models.fields import fields
from convserve_models.layers.pixels import Pixels

ORACLES = {"gradient": Saliency, "deconvnet": Deconvolution, "guided": GuidedBackprop}
ONLY_RECTIFIERS = {"all_cnn", "deep_roots", "googlenet"}
NETWORKS = [*sorted(ONLY_RECTIFIERS), "airbench", "efficientnet_lite"]
LAST_MAPS = {
    "airbench": "features.4",
    "all_cnn": "classifier.0",
    "deep_roots": "classifier.0",
    "efficientnet_lite": "head",
    "googlenet": "inception.5b",
}
TARGETS = [1, 2, 0]


class Explained:
    """A tiny network, three pictures, and what its explaining graph says of them."""

    def __init__(self, name: str, folder: Path) -> None:
        torch.manual_seed(0)
        architecture = zoo.architecture(name)
        self.inner = architecture(**architecture.tiny)
        self.net = nn.Sequential(Pixels((0.5, 0.4, 0.3), (0.2, 0.2, 0.3)), self.inner).eval()
        side = architecture.example(1, **architecture.tiny).shape[-1]
        self.pictures = torch.randint(0, 256, (3, side, side, 3), dtype=torch.uint8)
        self.file = folder / "model.onnx"
        predictor = graph.Predictor(self.net, 1.0).eval()
        graph.write(predictor, self.pictures, self.file, "image", *graph.Predictor.outputs)
        entries = explain.write(onnx.load(self.file), self.file)
        self.session, self.seeing = (
            ort.InferenceSession(folder / entries[role]["file"], providers=["CPUExecutionProvider"])
            for role in ("explain", "features")
        )

    def said(self, pictures: Tensor, targets: list[int]) -> dict[str, NDArray[np.float32]]:
        names = [output.name for output in self.session.get_outputs()]
        feed = {"image": pictures.numpy(), explain.TARGET: np.array(targets)}
        return dict(zip(names, self.session.run(names, feed), strict=True))


@pytest.fixture(scope="module", params=NETWORKS)
def explained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return request.param, Explained(request.param, tmp_path_factory.mktemp(request.param))


def test_every_method_says_what_captum_says(explained: tuple[str, Explained]) -> None:
    name, it = explained
    found = it.said(it.pictures, TARGETS)
    assert set(found) == {"cam", "gradient"} | (set(ORACLES) if name in ONLY_RECTIFIERS else set())
    pixels = it.pictures.float().requires_grad_()
    for method in found.keys() & ORACLES.keys():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum's, about its own hooks
            attribute = ORACLES[method](it.net).attribute
            further = {"abs": False} if method == "gradient" else {}
            expected = attribute(pixels, target=TARGETS, **further).detach().numpy()
        largest = np.abs(expected).max()
        assert largest > 0
        np.testing.assert_allclose(found[method] / largest, expected / largest, atol=1e-4)


def test_class_activation_maps_are_grad_cams_of_the_last_maps(
    explained: tuple[str, Explained],
) -> None:
    """But for a factor, and drawn where their receptive fields have their centres."""
    name, it = explained
    cam = LayerGradCam(it.net, it.inner.get_submodule(LAST_MAPS[name]))
    small = cam.attribute(it.pictures.float(), target=TARGETS).detach().numpy()[:, 0]
    back = Adjoint(onnx.load(it.file))
    where = fields(back, explain._last_maps(back), it.pictures.shape[1:3])
    expected = small * small[0].size
    for axis, (field, places) in enumerate(zip(where, it.pictures.shape[1:3], strict=True), 1):
        centres = float(field.start) + float(field.jump) * np.arange(small.shape[axis])
        along = partial(np.interp, np.arange(places), centres)
        expected = np.apply_along_axis(along, axis, expected)
    found = it.said(it.pictures, TARGETS)["cam"]
    largest = np.abs(found).max()
    np.testing.assert_allclose(found / largest, expected / largest, atol=1e-4)


def test_a_batch_is_its_pictures(explained: tuple[str, Explained]) -> None:
    _, it = explained
    together = it.said(it.pictures, TARGETS)
    for row, target in enumerate(TARGETS):
        for method, values in it.said(it.pictures[row : row + 1], [target]).items():
            largest = np.abs(values).max()
            np.testing.assert_allclose(
                together[method][row] / largest, values[0] / largest, atol=1e-4
            )


def test_the_maps_are_what_the_networks_convolutions_answer(
    explained: tuple[str, Explained],
) -> None:
    """In torch they are outputs of convolutions, normalisations or rectifiers, in this order."""
    _, it = explained
    answered: list[NDArray[np.float32]] = []
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)
    modules = [module for module in it.inner.modules() if isinstance(module, kinds)]
    hooks = [
        module.register_forward_hook(lambda *of: answered.append(of[-1].numpy().copy()))
        for module in modules
    ]
    with torch.no_grad():
        it.net(it.pictures)
    for hook in hooks:
        hook.remove()
    found = it.seeing.run(None, {"image": it.pictures.numpy()})
    assert len(found) == sum(isinstance(module, nn.Conv2d) for module in modules)
    for maps in found:
        same = [
            place
            for place, other in enumerate(answered)
            if other.shape == maps.shape and np.allclose(other, maps, atol=1e-4)
        ]
        assert same
        del answered[: same[0] + 1]


def test_rectified_maps_are_shown_behind_the_rectifier(tmp_path: Path) -> None:
    it = Explained("all_cnn", tmp_path)
    *inner, scores = it.seeing.run(None, {"image": it.pictures.numpy()})
    assert min(maps.min() for maps in inner) == 0
    assert scores.min() < 0


@pytest.mark.parametrize("file", [explain.FILE, features.FILE])
def test_weights_are_held_once(explained: tuple[str, Explained], file: str) -> None:
    _, it = explained
    held = onnx.load(it.file.with_name(file), load_external_data=False).graph.initializer
    weights = [t for t in onnx.load(it.file).graph.initializer if len(t.raw_data) > beside.SMALL]
    assert weights
    for tensor in held:
        assert len(tensor.raw_data) <= beside.SMALL
    elsewhere = sum(t.data_location == TensorProto.EXTERNAL for t in held)
    assert 0 < elsewhere <= len(weights)
    assert file == features.FILE or elsewhere == len(weights)


def _graph(*nodes: onnx.NodeProto, opset: int = 20, sizes: Any = ("n", 3, 4, 4)) -> ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    bounds = [helper.make_tensor(n, TensorProto.INT64, [1], [0]) for n in ("batch",)]
    made = helper.make_graph(nodes, "g", [x], [y], bounds)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (_graph(helper.make_node("Sin", ["x"], ["y"])), "Sin is not known"),
        (_graph(helper.make_node("Relu", ["x"], ["y"]), opset=17), "opset 17"),
        (_graph(helper.make_node("Mul", ["x", "x"], ["y"])), "none of them a constant"),
        (_graph(helper.make_node("Concat", ["x", "x"], ["y"], axis=0)), "batches"),
        (_graph(helper.make_node("ReduceMean", ["x", "batch"], ["y"])), "over the batch"),
        (_graph(helper.make_node("ReduceMean", ["x"], ["y"])), "over all axes"),
        (_graph(helper.make_node("Gelu", ["x"], ["y"], approximate="tanh")), "tanh"),
        (
            _graph(helper.make_node("Concat", ["x", "x"], ["y"], axis=1), sizes=("n", "c", 4, 4)),
            "not fixed",
        ),
    ],
)
def test_what_has_no_known_adjoint_is_refused(model: ModelProto, why: str) -> None:
    with pytest.raises(NoAdjoint, match=why):
        Adjoint(model).carry("y", "signal", "x")


def test_a_graph_without_a_softmax_is_not_explained() -> None:
    assert explain.explaining(_graph(helper.make_node("Relu", ["x"], ["y"]))) is None
