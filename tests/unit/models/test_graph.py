"""What an exported graph looks like."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from convserve_models.graph import LARGE, write

WORDS, FEATURES = LARGE // 64, 128


class Reader(nn.Module):
    """Looks words up, in the same table twice, and weighs what it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, FEATURES)
        self.weigh = nn.Linear(FEATURES, FEATURES)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.weigh(self.table(ids)) + self.table((ids + 1) % WORDS)
        return found


class Tied(Reader):
    """Its table is a matrix, too."""

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.table(ids) + (ids / WORDS @ self.table.weight)[:, None]
        return found


def written(module: nn.Module, path: Path) -> onnx.ModelProto:
    write(module.eval(), torch.zeros(2, WORDS, dtype=torch.int64), path, "ids", "found")
    return onnx.load(path)


@pytest.mark.parametrize("kind", [Reader, Tied])
def test_weights_that_fit_into_float16_are_stored_so_and_answer_the_same(
    kind: type[Reader], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = kind().half().float()
    graph = written(module, tmp_path / "model.onnx").graph
    large = [weight for weight in graph.initializer if np.prod(weight.dims) >= LARGE]
    assert large
    assert {weight.data_type for weight in large} == {TensorProto.FLOAT16}
    ids = torch.arange(2 * WORDS).reshape(2, WORDS) % WORDS
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"ids": ids.numpy()})
    np.testing.assert_allclose(found, module(ids).detach(), atol=1e-4)


@pytest.mark.parametrize(("kind", "narrow"), [(Reader, True), (Tied, False)])
def test_a_table_stays_narrow_in_memory_if_its_rows_are_only_looked_up(
    kind: type[Reader], narrow: bool, tmp_path: Path
) -> None:
    path, loaded = tmp_path / "model.onnx", tmp_path / "loaded.onnx"
    written(kind().half().float(), path)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(loaded)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    weights = map(numpy_helper.to_array, onnx.load(loaded).graph.initializer)
    tables = [weight.dtype for weight in weights if WORDS in weight.shape]
    assert (np.float16 in tables, np.float32 in tables) == (narrow, not narrow)


def test_weights_that_float16_would_round_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph = written(Reader(), tmp_path / "model.onnx").graph
    assert TensorProto.FLOAT16 not in {weight.data_type for weight in graph.initializer}
