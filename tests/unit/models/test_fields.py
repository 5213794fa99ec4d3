"""A unit of a map looks at the picture around the centre of its receptive field."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from convserve_models.adjoint import Adjoint, NoAdjoint
from convserve_models.arithmetic.axis import Direct, Pads
from convserve_models.arithmetic.stack import Field
from convserve_models.fields import fields, placement

PICTURE = (25, 21)
SIDES = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(0, 1))


def _window(rows: tuple[int, ...], columns: tuple[int, ...]) -> dict[str, Any]:
    """Padding below the kernel's size: poolings take no other."""
    kernel, strides, before, after = zip(rows, columns, strict=True)
    pads = (min(pad, k - 1) for pad, k in zip((*before, *after), kernel * 2, strict=True))
    return {"kernel_shape": kernel, "strides": strides, "pads": tuple(pads)}


WINDOWS = st.builds(_window, SIDES, SIDES)
LAYERS = st.one_of(
    st.tuples(st.sampled_from(["Conv", "MaxPool"]), WINDOWS),
    st.tuples(st.just("AveragePool"), WINDOWS.map(lambda w: {**w, "count_include_pad": 1})),
    st.tuples(st.just("Pad"), st.lists(st.integers(0, 2), min_size=4, max_size=4)),
    st.tuples(st.sampled_from(["Relu", "Shortcut"]), st.none()),
)


def _graph(layers: list[tuple[str, Any]]) -> ModelProto:
    """One channel, weights of one, from `x` to `y`."""
    nodes, constants, last = [helper.make_node("Identity", ["x"], ["picture"])], [], "picture"
    for number, (op, told) in enumerate([*layers, ("Identity", None)]):
        name, constant = f"maps{number}", f"constant{number}"
        if op in {"Conv", "ConvTranspose"}:
            constants.append((constant, np.ones((1, 1, *told["kernel_shape"]), np.float32)))
            nodes.append(helper.make_node(op, [last, constant], [name], **told))
        elif op == "Pad":
            pads = np.array([0, 0, *told[:2], 0, 0, *told[2:]])
            constants.append((constant, pads))
            nodes.append(helper.make_node(op, [last, constant], [name]))
        elif op == "Shortcut":
            constants.append((constant, np.ones((1, 1, 3, 3), np.float32)))
            around = helper.make_node(
                "Conv", [last, constant], [f"{name}/3"], kernel_shape=(3, 3), pads=[1] * 4
            )
            nodes += [around, helper.make_node("Add", [f"{name}/3", last], [name])]
        else:
            nodes.append(helper.make_node(op, [last], [name], **(told or {})))
        last = name
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, *PICTURE])
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(value, name) for name, value in constants]
    opset = helper.make_opsetid("", 20)
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


@given(st.lists(LAYERS, min_size=1, max_size=4))
def test_a_unit_looks_around_its_centre(layers: list[tuple[str, Any]]) -> None:
    model = _graph(layers)
    size = np.array(PICTURE)
    one_lit = np.eye(size.prod(), dtype=np.float32).reshape(-1, 1, *size)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = session.run(None, {"x": one_lit})[0][:, 0]
    assume(seen.size)
    unit = np.array(seen.shape[1:]) // 2
    lit = np.argwhere(seen[:, unit[0], unit[1]].reshape(PICTURE) > 0)
    assume(lit.size)
    first, last = lit.min(axis=0), lit.max(axis=0)
    found = fields(Adjoint(model), model.graph.output[0].name, PICTURE)
    whole = [field.size for field in found]
    assume((last - first + 1).tolist() == whole)  # no border, of the picture or of maps, cuts it
    centres = [float(field.start + n * field.jump) for field, n in zip(found, unit, strict=True)]
    assert centres == ((first + last) / 2).tolist()


def test_padding_that_depends_on_the_size_is_followed() -> None:
    same = {"kernel_shape": (3, 3), "strides": (2, 2)}
    named = _graph([("Conv", {**same, "auto_pad": "SAME_UPPER"})])
    told = _graph([("Conv", {**same, "pads": (1, 1, 1, 1)})])
    starts = [
        [(field.start, field.jump) for field in fields(Adjoint(model), "maps1", PICTURE)]
        for model in (named, told)
    ]
    assert starts[0] == starts[1]


def test_what_is_enlarged_inside_the_graph_is_not_followed() -> None:
    twice = {"kernel_shape": (2, 2), "strides": (2, 2)}
    model = _graph([("MaxPool", {"kernel_shape": (3, 3)}), ("ConvTranspose", twice)])
    with pytest.raises(NoAdjoint, match="is not known"):
        fields(Adjoint(model), "maps2", PICTURE)


def test_pixels_between_two_centres_are_given_of_both() -> None:
    weights = placement(Field().through(Direct(2, 2, 1, Pads(0, 0))), 3, 8)
    expected = [(1, 0, 0), (0.75, 0.25, 0), (0.25, 0.75, 0), (0, 0.75, 0.25), (0, 0.25, 0.75)]
    np.testing.assert_array_equal(weights, [*expected, *[(0, 0, 1)] * 3])
