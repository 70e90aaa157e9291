from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.updates import Layer, Part, Updates, make_layers, pieces

DTYPES = [np.float32, np.float64]
LAYOUTS = {
    "plain": lambda row, dtype: row.astype(dtype),
    "half": lambda row, dtype: row.astype(np.float16),
    "every other": lambda row, dtype: np.repeat(row.astype(dtype), 2)[::2],
    "read-only": lambda row, dtype: np.frombuffer(row.astype(dtype).tobytes(), dtype),
    "swapped": lambda row, dtype: row.astype(np.dtype(dtype).newbyteorder()),
    "unaligned": lambda row, dtype: np.frombuffer(b"x" + row.astype(dtype).tobytes(), dtype, offset=1),
}


def draw(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns))


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bases", ["none", "one", "some", "a base each"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_read_and_weigh_rows_of_any_layout(dtype, bases, layout):
    arrays = [LAYOUTS[layout](row, dtype) for row in draw(5, 3000)]
    made = [LAYOUTS[layout](row, dtype) for row in draw(5, 3000, seed=9)]
    chosen = {"none": [None] * 5, "one": made[:1] * 5, "some": [made[0], None, made[1], None, made[0]]}.get(bases, made)
    part = Part(0, arrays, chosen, np.dtype(dtype))
    assert part.plain == (layout in ("plain", "read-only"))
    rows = np.array(
        [
            np.asarray(a, dtype) - (dtype(0) if base is None else np.asarray(base, dtype))
            for a, base in zip(arrays, chosen, strict=True)
        ]
    )
    out = np.full((5, 2600), np.nan, dtype)
    part.read(300, 2800, None, out, 40)
    np.testing.assert_array_equal(out[:, 40:2540], rows[:, 300:2800])
    assert np.isnan(out[:, :40]).all()
    assert np.isnan(out[:, 2540:]).all()
    part.read(7, 9, [3, 1], out[:2], 0)
    np.testing.assert_array_equal(out[:2, :2], rows[[3, 1], 7:9])
    weights = np.array([0.5, 0.0, -1.0, 2.0, 0.0])
    wide = rows[:, 300:2800].astype(np.float64)
    for squares in (np.ones(5), None):
        total = np.ones(2500)
        part.accumulate(300, 2800, weights, total, squares)
        np.testing.assert_allclose(total, 1 + weights @ wide, rtol=1e-9, atol=1e-12)
        if squares is not None:
            np.testing.assert_allclose(squares, 1 + np.square(wide).sum(axis=1), rtol=1e-9)
    columns = np.array([0, 5, 2999])
    np.testing.assert_array_equal(part.take(columns), rows[:, columns])


# ---------------------------------------------------------------- updates


def replies_of(X, layers):
    return [[row[layer.start : layer.stop] for layer in layers] for row in X]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_model", [False, True])
def test_replies_minus_the_model_are_one_matrix(dtype, with_model):
    layers = make_layers([("a", (3, 4)), ("none", 0), ("b", 1), ("c", (87,))], 100)
    X, model = draw(4, 100).astype(dtype), draw(1, 100, seed=1)[0].astype(dtype)
    sent = replies_of([model], layers)[0] if with_model else [None] * len(layers)
    updates = Updates.of_replies(replies_of(X, layers), [sent] * 4, layers, np.dtype(dtype))
    expected = X - model if with_model else X
    assert (updates.n, updates.d, updates.dtype, updates.layers) == (4, 100, dtype, layers)
    for start, stop in [(0, 100), (5, 13), (12, 13), (99, 100), (20, 20)]:
        for which in (None, [2, 0]):
            out = np.full((4 if which is None else 2, 100), np.nan, dtype)
            updates.read(start, stop, out, which)
            np.testing.assert_array_equal(
                out[:, : stop - start], (expected if which is None else expected[which])[:, start:stop]
            )
    total, squares = np.zeros(30), np.zeros(4)
    updates.accumulate(5, 35, np.array([1.0, 0.0, 2.0, -1.0]), total, squares)
    wide = expected[:, 5:35].astype(np.float64)
    np.testing.assert_allclose(total, wide[0] + 2 * wide[2] - wide[3], rtol=1e-9)
    np.testing.assert_allclose(squares, np.square(wide).sum(axis=1), rtol=1e-9)
    for columns in ([0, 11, 12, 13, 99], [12], [], [50, 51]):
        np.testing.assert_array_equal(updates.take(np.array(columns, int)), expected[:, columns])


def test_vectors_stack_below_the_rows_and_no_model_is_subtracted_from_them():
    layers = make_layers([("a", 7), ("b", 13)], 20)
    X, model, vectors = draw(3, 20), draw(1, 20, seed=1)[0], draw(2, 20, seed=2)
    updates = Updates.of_replies(replies_of(X, layers), replies_of([model] * 3, layers), layers, X.dtype)
    both = updates.stacked([vectors[0].astype(np.float32)]).stacked([vectors[1]])
    assert (updates.n, both.n, both.d, both.layers, both.device) == (3, 5, 20, layers, updates.device)
    out = np.empty((5, 20))
    both.read(0, 20, out)
    np.testing.assert_array_equal(out, np.vstack([X - model, vectors[0].astype(np.float32), vectors[1]]))


def test_rows_are_read_in_the_dtype_of_the_first():
    assert Updates.of_rows(draw(2, 3)).dtype == np.float64
    assert Updates.of_rows(draw(2, 3).astype(np.float16)).dtype == np.float32
    assert Updates.of_rows([draw(1, 3)[0].astype(np.float32), draw(1, 3)[0]]).dtype == np.float32


@pytest.mark.parametrize("kind", ["f2", "f8", ">f4", "i8", "?"])
def test_replies_of_other_dtypes_are_read_in_the_updates_own(kind):
    layers = make_layers([("a", 2), ("b", 1)], 3)
    X = np.array([[0, 1, 1], [1, 1, 0]])
    replies = replies_of(X.astype(kind), layers)
    replies[1] = replies_of(X.astype(np.float32), layers)[1]
    models = [[np.full(2, 0.5, np.float32), None], [np.full(2, 0.25, np.float32), None]]
    updates = Updates.of_replies(replies, models, layers, np.dtype(np.float32))
    out = np.empty((2, 3), np.float32)
    updates.read(0, 3, out)
    expected = X - np.array([[0.5, 0.5, 0], [0.25, 0.25, 0]])
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(updates.take(np.array([0, 2])), expected[:, [0, 2]])


def test_a_round_without_replies_or_values():
    assert Updates.of_replies([], [], make_layers(None, 4), np.dtype(np.float32)).n == 0
    empty = Updates.of_rows(np.zeros((3, 0)))
    assert (empty.n, empty.d, empty.take(np.array([], int)).shape) == (3, 0, (3, 0))
    assert Updates.of_replies([[], []], [[], []], (), np.dtype(np.float32)).d == 0


# ---------------------------------------------------------------- layers


def test_layers_cover_the_columns_in_order():
    layers = make_layers({"w": (2, 3), "none": 0, "b": np.int64(4), "scalar": ()}, 11)
    assert layers == (
        Layer("w", (2, 3), 0, 6),
        Layer("none", (0,), 6, 6),
        Layer("b", (4,), 6, 10),
        Layer("scalar", (), 10, 11),
    )
    assert [layer.size for layer in layers] == [6, 0, 4, 1]
    assert make_layers(None, 5) == (Layer("all", (5,), 0, 5),)
    # Place, columns within the layer, and where they are in the block.
    assert list(pieces(layers, 4, 11)) == [(0, 4, 6, 0), (2, 0, 4, 2), (3, 0, 1, 6)]
    assert list(pieces(layers, 7, 9)) == [(2, 1, 3, 0)]
    assert list(pieces((), 0, 5)) == []


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("a", 2)], "the layers hold 2 values in all, but the rows have 3 columns; give every layer once"),
        ([("a", 4), ("b", -1)], r"layer 'b' has the shape \(-1,\); give sizes of 0 or more"),
    ],
)
def test_wrong_layers(layers, message):
    with pytest.raises(ValueError, match=message):
        make_layers(layers, 3)
