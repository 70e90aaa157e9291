"""`.npy` bytes, and layouts of models."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from flwr_robust.messages.arrays import (
    CHUNK,
    STATISTICS,
    Apart,
    Arrays,
    Layout,
    RejectedError,
    lower_median,
    make_array,
    read_header,
)
from tests.flower_messages import SHAPES, record, values
from tests.messages.unusable import MODEL, RECORDS, npy, with_w


def layout_of(model, **options):
    arrays = Arrays.of(model if isinstance(model, ArrayRecord) else record(model))
    return Layout.most_common([arrays], arrays, **options)


def read(layout, model):
    return layout.read(Arrays.of(model), {})


LAYOUT = layout_of(MODEL)


@pytest.mark.parametrize("kind", RECORDS)
def test_what_does_not_fit_is_refused_with_a_reason(kind):
    made, reason = RECORDS[kind]
    with pytest.raises(RejectedError, match=reason):
        read(LAYOUT, made)


def test_what_numpy_may_write_is_read():
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    for data in (npy(np.asfortranarray(value)), npy(value, version=(2, 0)), npy(value, version=(3, 0))):
        made = ArrayRecord(dict(reversed(with_w(data=data).items())))
        found = read(LAYOUT, made)
        assert list(found) == list(MODEL)
        assert np.array_equal(found["w"], value.ravel())


def test_what_declares_nothing_is_what_its_header_says():
    """So are the arrays that Flower makes of the older interface's parameters."""
    arrays = Arrays.of(ArrayRecord({"0": Array(dtype="", shape=(), stype="numpy.ndarray", data=npy(MODEL["w"]))}))
    assert arrays.shapes == {"0": (2, 3)}
    assert arrays.values["0"].dtype == np.float32
    with pytest.raises(RejectedError, match=r"no \.npy file"):
        Arrays.of(ArrayRecord({"0": Array(dtype="", shape=(), stype="numpy.ndarray", data=b"{")}))


def test_values_are_read_without_a_copy():
    made = record(MODEL)
    assert np.shares_memory(read(LAYOUT, made)["w"], np.frombuffer(made["w"].data, np.uint8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "complex64"}, "'w' has the dtype 'complex64'; floats of 16 to 64 bits and integers can be used"),
        ({"dtype": "(1000000,1000000)f4"}, r"the dtype '\(1000000,1000000\)f4'"),
        ({"shape": (-1,)}, r"the shape \(-1,\)"),
    ],
)
def test_a_layout_has_dtypes_and_shapes_that_arrays_can_have(fields, message):
    with pytest.raises(RejectedError, match=message):
        Arrays.of(with_w(**fields))


# ---------------------------------------------------------------- layouts


def test_floats_are_learned_and_integers_counted():
    layers = [(layer.name, layer.shape, layer.start, layer.stop) for layer in LAYOUT.learned]
    assert layers == [("w", (2, 3), 0, 6), ("b", (2,), 6, 8)]
    assert LAYOUT.counted == ["count"]
    assert LAYOUT.statistic == ()


def test_of_integers_alone_all_are_learned():
    layout = layout_of({"q": np.zeros(3, np.int8), "r": np.zeros(2, np.int64)})
    assert [layer.name for layer in layout.learned] == ["q", "r"]
    assert layout.counted == []
    assert layout.dtype_of(layout.learned) == np.float64
    assert layout.dtype_of(layout.learned[:1]) == np.float32


def test_statistics_are_known_by_name_and_pattern():
    model = {f"bn.{part}": np.zeros(2, np.float32) for part in STATISTICS if part != "num_batches_tracked"}
    model |= {"w": np.zeros(2, np.float32), "w.ema": np.zeros(3, np.float32)}
    model |= {"bn.num_batches_tracked": np.array(1)}
    layout = layout_of(model, statistics=["*.ema"])
    assert [layer.name for layer in layout.learned] == ["w"]
    assert {layer.name for layer in layout.statistic} == model.keys() - {"w", "bn.num_batches_tracked"}
    assert layout.counted == ["bn.num_batches_tracked"]
    assert [layer.name for layer in layout_of(model).learned] == ["w", "w.ema"]


def majority(*replies, sent=None):
    found = Layout.most_common([Arrays.of(record(r)) for r in replies], sent and Arrays.of(record(sent)))
    return found and [(name, str(dtype), shape) for name, dtype, shape in found.entries]


def test_more_than_half_have_to_share_a_layout():
    one, other = {"a": np.ones(2, np.float32)}, {"a": np.ones(3, np.float32)}
    assert majority(one, other) is None
    assert majority(one, other, one) == [("a", "float32", (2,))]
    assert majority() is None


def test_names_order_and_dtypes_are_those_that_were_sent():
    sent = {"b": np.zeros((), np.float32), "a": np.zeros(2, np.float16), "head": np.zeros(9, np.float32)}
    reply = {"new": np.zeros(1, np.float64), "a": np.zeros(2, np.float64), "b": np.zeros(1, np.float64)}
    # "b" is sent as a number, and comes back as an array of one.
    expected = [("b", "float32", ()), ("a", "float16", (2,)), ("new", "float64", (1,))]
    assert majority(reply, sent=sent) == expected


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i1", "i8", "u4", "?"])
def test_floats_and_whole_numbers_are_read_for_floats(dtype):
    value = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    found = read(LAYOUT, with_w(data=npy(value), dtype=str(np.dtype(dtype))))["w"]
    assert found.tolist() == [1, 0, 1, 0, 1, 1]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">i4", "u1", "?"])
def test_whole_numbers_are_read_for_integers(dtype):
    found = read(LAYOUT, record({**MODEL, "count": np.array(1).astype(dtype)}))["count"]
    assert (found.dtype, found.tolist()) == (np.int64, [1])


def test_holes_are_places_that_are_not_finite():
    mask = np.array([[0, -np.inf], [np.nan, 1]], np.float32)
    holes = Arrays.of(record({"mask": mask, "w": np.ones(3)})).holes
    assert {name: places.tolist() for name, places in holes.items()} == {"mask": [1, 2]}


# ---------------------------------------------------------------- writing


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
    layout = layout_of(model)
    update = rng.standard_normal(3 * CHUNK // 2 + 2).astype(np.float32 if dtype == np.float16 else dtype)
    for sent in (read(layout, record(model)), {}):
        found = values(layout.step(sent, update.copy(), 0.5, Apart({"n": np.array([7])})))
        assert {name: (v.dtype, v.shape) for name, v in found.items()} == {
            name: (v.dtype, v.shape) for name, v in model.items()
        }
        assert found["n"].tolist() == [7]
        moved = np.concatenate([np.ravel(found[name]) for name in ("w", "b")])
        start = 0 if not sent else np.concatenate([np.ravel(model[name]) for name in ("w", "b")])
        np.testing.assert_allclose(moved, start + 0.5 * update, atol=2e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_model_stays_within_the_range_of_its_dtype(dtype):
    largest = float(np.finfo(dtype).max)
    update = np.array([largest, -largest], np.float32)
    found = values(layout_of({"w": np.zeros(2, dtype)}).step({"w": np.ones(2, dtype)}, update, 10.0, Apart()))["w"]
    assert found.tolist() == [largest, -largest]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, bool])
def test_learned_integers_are_rounded_and_stay_in_range(dtype):
    low, high = (0, 1) if dtype is bool else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    layout = layout_of({"q": np.zeros(3, dtype)})
    update = np.array([-1e300, 0.6, 1e300])
    found = values(layout.step({}, update, 1.0, Apart()))["q"]
    assert found.dtype == dtype
    assert [int(found[0]), int(found[1])] == [low, 1]
    # Of 64 bits the largest integer that is a float, too.
    assert 0.999 * high <= int(found[2]) <= high


def test_patches_are_put_into_what_was_made():
    layout = layout_of({"w": np.zeros((2, 2), np.float32)})
    apart = Apart(patches={"w": (np.array([1, 2]), np.array([-np.inf, 7], np.float32))})
    found = values(layout.step({}, np.ones(4, np.float32), 1.0, apart))["w"]
    assert found.tolist() == [[1, -np.inf], [7, 1]]


def test_the_lower_of_the_middle_two():
    rows = np.random.default_rng(1).integers(0, 100, (4, CHUNK + 3))
    assert np.array_equal(lower_median(rows), np.sort(rows, axis=0)[1])
    masks = lower_median([np.array([i > 1, i > 0]) for i in range(4)])
    assert (masks.dtype, masks.tolist()) == (bool, [False, True])
    # NaN is larger than all numbers.
    assert lower_median(np.array([[np.nan, np.nan], [np.nan, -np.inf], [1, -np.inf]])).tolist()[1] == -np.inf
