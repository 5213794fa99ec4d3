import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from convserve.engine import Arrays
from convserve.engine.isolation import Stop
from convserve.engine.memory import resident
from convserve.engine.session import DATATYPES, Session, TensorSpec, new_stop
from convserve.errors import InvalidArtifact

WEIGHTS = np.arange(1, 5, dtype=np.float32)


def scale(shape: Sequence[int | str | None], opset: int = 17) -> onnx.ModelProto:
    """The graph y = x · [1, 2, 3, 4]."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def identity(element: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", element, ["N", 2])],
        [helper.make_tensor_value_info("y", element, ["N", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def spread(width: int, length: int | str = 1) -> onnx.ModelProto:
    """The graph y[N,1] = least of x[N,length], by way of so many copies of it."""
    graph = helper.make_graph(
        [
            helper.make_node("Tile", ["x", "times"], ["copies"]),
            helper.make_node("Neg", ["copies"], ["negated"]),
            helper.make_node("ReduceMin", ["negated"], ["least"], axes=[1]),
            helper.make_node("Neg", ["least"], ["y"]),
        ],
        "spread",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", length])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.array([1, width]), "times")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def with_external_weights(location: str) -> onnx.ModelProto:
    model = scale(["N", 4])
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return model


def choosing(width: int) -> onnx.ModelProto:
    """The graph y = x if the first value is above 0, else −x."""

    def branch(operator: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(operator, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["x"], [operator])], "b", [], [result])

    model = scale(["N", width])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "none"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["y"], then_branch=branch("Identity"), else_branch=branch("Neg")
        ),
    ]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "none"))
    return model


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(save(scale(["N", 4]), tmp_path_factory.mktemp("model") / "model.onnx"), 1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model's own directory, inside another one."""
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        (["N", 4], (-1, 4)),
        ([None, 4], (-1, 4)),
        ([3, 4], (3, 4)),
        (["N", "H", 7, 4], (-1, -1, 7, 4)),
    ],
)
def test_a_dynamic_axis_is_minus_one(
    tmp_path: Path, declared: list[int | str | None], shape: tuple[int, ...]
) -> None:
    session = Session(save(scale(declared), tmp_path / "m.onnx"), 1)
    assert session.inputs == [TensorSpec("x", "FP32", shape)]
    assert session.outputs == [TensorSpec("y", "FP32", shape)]


@pytest.mark.parametrize(("runtime_type", "datatype"), DATATYPES.items())
def test_datatypes_are_those_of_the_protocol(
    tmp_path: Path, runtime_type: str, datatype: str
) -> None:
    element = runtime_type.removeprefix("tensor(").removesuffix(")").upper()
    model = identity(TensorProto.DataType.Value(element))
    session = Session(save(model, tmp_path / "m.onnx"), 1)
    assert [spec.datatype for spec in session.inputs + session.outputs] == [datatype] * 2


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4), min_size=1))
def test_a_batch_is_its_rows(session: Session, rows: list[list[float]]) -> None:
    batch = np.array(rows, dtype=np.float32)
    np.testing.assert_array_equal(session.run({"x": batch})["y"], batch * WEIGHTS)


def test_a_graph_that_chooses_by_its_values_is_not_steady(session: Session, tmp_path: Path) -> None:
    assert session.steady()
    chooses = Session(save(choosing(4), tmp_path / "model.onnx"), 1)
    assert not chooses.steady()
    np.testing.assert_array_equal(chooses.run({"x": -np.ones((2, 4), np.float32)})["y"], 1)


@pytest.mark.skipif(not resident(), reason="nothing tells what is in memory")
@pytest.mark.parametrize("tidy", [False, True])
def test_the_first_single_run_after_a_rush_gives_its_memory_back(
    tmp_path: Path, tidy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convserve.engine.session.RARE", 1.0)  # longer than a run on any machine
    session = Session(save(spread(2**20), tmp_path / "model.onnx"), 1)
    before = resident()

    def kept(size: int, stop: Stop | None = None) -> float:
        session.run({"x": np.ones((size, 1), np.float32)}, stop)
        return (resident() - before) / 2**20

    most = max(kept(16), kept(16))
    assert kept(1) > most - 10  # others may follow
    if tidy:
        assert kept(1, new_stop(tidy=True)) < most - 100
    else:
        time.sleep(1.1)
        assert kept(1) < most - 100


@pytest.mark.skipif(not resident(), reason="nothing tells what is in memory")
def test_runs_of_varying_shapes_give_memory_back_time_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convserve.engine.session.OFTEN", 1.0)  # longer than a run on any machine
    session = Session(save(spread(2**20, "T"), tmp_path / "model.onnx"), 1)
    before = resident()

    def kept() -> float:
        session.run({"x": np.ones((16, 1), np.float32)})
        return (resident() - before) / 2**20

    cleared, most = kept(), kept()
    assert cleared < most - 100
    assert kept() > most - 10  # others may follow
    time.sleep(1.1)
    assert kept() < most - 100


def test_one_session_serves_many_threads(session: Session) -> None:
    batches = [np.full((1 + i % 5, 4), i, dtype=np.float32) for i in range(400)]
    together = threading.Barrier(4)

    def run(batch: Arrays) -> Arrays:
        return session.run(batch)

    with ThreadPoolExecutor(4, initializer=together.wait) as executors:
        answers = list(executors.map(run, ({"x": batch} for batch in batches)))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], batch * WEIGHTS)


def count_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_session_starts_the_threads_it_was_given_and_no_more(
    tmp_path: Path, threads: int
) -> None:
    before = count_threads()
    session = Session(save(scale(["N", 4]), tmp_path / "m.onnx"), threads)
    session.run({"x": np.ones((64, 4), dtype=np.float32)})
    assert count_threads() - before == threads - 1


def test_threads_do_not_spin(tmp_path: Path) -> None:
    session = Session(save(scale(["N", 4]), tmp_path / "m.onnx"), 2)
    options = session._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def broken(kind: str) -> bytes:
    model = scale(["N", 4])
    if kind == "operator":
        model.graph.node[0].op_type = "Frobnicate"
    if kind == "domain":
        model.graph.node[0].domain = "com.example"
        model.opset_import.append(helper.make_opsetid("com.example", 1))
    if kind == "opset":
        model = scale(["N", 4], opset=999)
    if kind == "ir":
        model.ir_version = 999
    if kind == "kernel":
        model = identity(TensorProto.BFLOAT16)
        model.graph.node[0].op_type = "Selu"
        model.opset_import[0].version = 22
    if kind == "edge":
        model.graph.node[0].input[1] = "nowhere"
    content = bytes(model.SerializeToString())
    return {"empty": b"", "cut": content[:-30], "text": b"not a model\n"}.get(kind, content)


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("empty", "restore it, or export it again"),
        ("cut", "restore it, or export it again"),
        ("text", "restore it, or export it again"),
        ("operator", "operators of the ONNX standard"),
        ("domain", "operators of the ONNX standard"),
        ("opset", "lower opset, or install a newer onnxruntime"),
        ("ir", "install a newer onnxruntime"),
        ("kernel", "types that the CPU provider implements"),
        ("edge", "export the model again"),
    ],
)
def test_what_does_not_load_says_how_to_mend_it(tmp_path: Path, kind: str, remedy: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(broken(kind))
    with pytest.raises(InvalidArtifact) as raised:
        Session(path, 1)
    assert str(path) in raised.value.detail
    assert remedy in raised.value.remedy


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(InvalidArtifact, match=f"{path} is not a file"):
            Session(path, 1)


def test_inputs_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node("SequenceLength", ["x"], ["y"])],
        "length",
        [sequence],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InvalidArtifact, match=r"'x' is a seq\(tensor\(float\)\); export"):
        Session(save(model, tmp_path / "m.onnx"), 1)


def test_external_data_beside_the_model_is_read(directory: Path) -> None:
    (directory / "weights.bin").write_bytes(WEIGHTS.tobytes())
    path = save(with_external_weights("weights.bin"), directory / "model.onnx")
    ones = np.ones((1, 4), dtype=np.float32)
    np.testing.assert_array_equal(Session(path, 1).run({"x": ones})["y"], [WEIGHTS])


@pytest.mark.parametrize("location", ["../weights.bin", "{outside}", "link.bin"])
def test_external_data_elsewhere_is_refused(directory: Path, location: str) -> None:
    outside = directory.parent / "weights.bin"
    outside.write_bytes(WEIGHTS.tobytes())
    (directory / "link.bin").symlink_to(outside)
    model = with_external_weights(location.format(outside=outside))
    with pytest.raises(InvalidArtifact, match="inside the model's own directory"):
        Session(save(model, directory / "model.onnx"), 1)


def test_missing_external_data_is_told(directory: Path) -> None:
    path = save(with_external_weights("absent.bin"), directory / "model.onnx")
    with pytest.raises(InvalidArtifact, match=r"absent\.bin") as raised:
        Session(path, 1)
    assert "beside the model" in raised.value.remedy
