"""`.npy` bytes, and layouts of models."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from flwr_robust.messages.arrays import CHUNK, Layout, RejectedError, make_array, read_header
from tests.flower_messages import SHAPES, record, values
from tests.messages.unusable import MODEL, RECORDS, npy, with_w

LAYOUT = Layout.of(record(MODEL))


@pytest.mark.parametrize("kind", RECORDS)
def test_what_does_not_fit_is_refused_with_a_reason(kind):
    made, reason = RECORDS[kind]
    with pytest.raises(RejectedError, match=reason):
        LAYOUT.read(made)


def test_what_numpy_may_write_is_read():
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    for data in (npy(np.asfortranarray(value)), npy(value, version=(2, 0)), npy(value, version=(3, 0))):
        made = ArrayRecord(dict(reversed(with_w(data=data).items())))
        found = LAYOUT.read(made)
        assert list(found) == list(MODEL)
        assert np.array_equal(found["w"], value.ravel())


def test_values_are_read_without_a_copy():
    made = record(MODEL)
    read = LAYOUT.read(made)["w"]
    assert np.shares_memory(read, np.frombuffer(made["w"].data, np.uint8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "complex64"}, "'w' has the dtype 'complex64'; floats and integers can be used"),
        ({"dtype": "(1000000,1000000)f4"}, r"the dtype '\(1000000,1000000\)f4'"),
        ({"shape": (-1,)}, r"the shape \(-1,\)"),
    ],
)
def test_a_layout_has_dtypes_and_shapes_that_arrays_can_have(fields, message):
    with pytest.raises(RejectedError, match=message):
        Layout.of(with_w(**fields))


def test_the_layers_are_the_float_arrays():
    layers = [(layer.name, layer.shape, layer.start, layer.stop) for layer in LAYOUT.layers]
    assert layers == [("w", (2, 3), 0, 6), ("b", (2,), 6, 8)]


@pytest.mark.parametrize("shape", [*SHAPES.values(), (3, 2, 0)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, bool])
def test_arrays_are_made_as_flower_makes_them(shape, dtype):
    value = np.random.default_rng(0).integers(0, 9, shape).astype(dtype)
    made, flowers = make_array(value.ravel(), shape), Array(np.asarray(value))
    assert (made.dtype, made.shape, made.stype, made.data) == (
        flowers.dtype,
        flowers.shape,
        flowers.stype,
        flowers.data,
    )
    assert read_header(made.data) == (shape, False, np.dtype(dtype), len(made.data) - value.nbytes)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_step_adds_the_rate_times_the_update(dtype):
    rng = np.random.default_rng(3)
    model = {"w": rng.standard_normal((3, CHUNK // 2)).astype(dtype), "n": np.array([4]), "b": np.ones(2, dtype)}
    layout = Layout.of(record(model))
    update = rng.standard_normal(3 * CHUNK // 2 + 2).astype(np.float32 if dtype == np.float16 else dtype)
    for sent in (layout.read(record(model)), None):
        found = values(layout.step(sent, update.copy(), 0.5, {"n": np.array([7])}))
        assert {name: (v.dtype, v.shape) for name, v in found.items()} == {
            name: (v.dtype, v.shape) for name, v in model.items()
        }
        assert found["n"].tolist() == [7]
        moved = np.concatenate([np.ravel(found[name]) for name in ("w", "b")])
        start = 0 if sent is None else np.concatenate([np.ravel(model[name]) for name in ("w", "b")])
        np.testing.assert_allclose(moved, start + 0.5 * update, atol=2e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_model_stays_within_the_range_of_its_dtype(dtype):
    largest = float(np.finfo(dtype).max)
    layout = Layout.of(record({"w": np.zeros(2, dtype)}))
    update = np.array([largest, -largest], np.float32)
    found = values(layout.step({"w": np.ones(2, dtype)}, update, 10.0, {}))["w"]
    assert found.tolist() == [largest, -largest]


def test_integer_arrays_take_the_lower_of_the_middle_two():
    rows = np.random.default_rng(1).integers(0, 100, (4, CHUNK + 3))
    models = [{"n": row, "mask": np.array([i > 1, i > 0])} for i, row in enumerate(rows)]
    layout = Layout.of(record({**models[0], "w": np.zeros(2, np.float32)}))
    found = layout.integers(models)
    assert np.array_equal(found["n"], np.sort(rows, axis=0)[1])
    assert found["mask"].tolist() == [False, True]
    assert found["mask"].dtype == bool
    assert "w" not in found
