import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from convserve.engine import Arrays
from convserve.engine.collate import split, stack

dtypes = st.sampled_from(["uint8", "int64", "float32", "float16", "bool"])
shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)


@st.composite
def batches(draw: st.DrawFn) -> list[Arrays]:
    """One to six items with the same names, shapes and dtypes."""
    specs = draw(st.dictionaries(st.text(max_size=3), st.tuples(dtypes, shapes), max_size=3))
    item = st.fixed_dictionaries(
        {name: hnp.arrays(dtype, shape) for name, (dtype, shape) in specs.items()}
    )
    return draw(st.lists(item, min_size=1, max_size=6))


@given(batches())
def test_split_undoes_stack(items: list[Arrays]) -> None:
    batch = stack(items)
    assert all(array.shape[0] == len(items) for array in batch.values())
    for item, back in zip(items, split(batch, len(items)), strict=True):
        assert item.keys() == back.keys()
        for name, array in item.items():
            assert back[name].dtype == array.dtype
            np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"x": np.zeros(3, "float32")}, ValueError),
        ({"y": np.zeros(2, "float32")}, ValueError),
        ({}, ValueError),
        ({"x": np.zeros(2, "float32"), "y": np.zeros(2, "float32")}, ValueError),
        ({"x": np.zeros(2, "float64")}, TypeError),
        ({"x": np.zeros(2, "uint8")}, TypeError),
    ],
)
def test_unequal_items_do_not_stack(other: Arrays, error: type[Exception]) -> None:
    item: Arrays = {"x": np.zeros(2, "float32")}
    for pair in ([item, other], [other, item]):
        with pytest.raises(error):
            stack(pair)


@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_an_output_without_the_batch_axis_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"'logits' .* batch of 2; export"):
        split({"logits": np.zeros(shape)}, 2)
