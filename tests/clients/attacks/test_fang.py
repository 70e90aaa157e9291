"""Fang's attacks, against the definitions written out in loops."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks
from tests.clients.attacks.data import draw


def scores(rows, neighbours):
    found = []
    for i, row in enumerate(rows):
        squares = sorted(((row - other) ** 2).sum() for j, other in enumerate(rows) if j != i)
        found.append(sum(squares[:neighbours]))
    return found


def krum(rows, f):
    return int(np.argmin(scores(rows, max(1, len(rows) - f - 2))))


def search(rows, signs, copies, start, threshold):
    factor = start
    while factor >= threshold * start:
        if krum(np.concatenate([rows, np.tile(-factor * signs, (copies, 1))]), copies) >= len(rows):
            return factor, True
        factor /= 2
    return factor, False


def full(honest, f, own=None, threshold=1e-5):
    n, d = len(honest) + f, honest.shape[1]
    shown = honest if own is None else np.concatenate([honest, own])
    signs = np.sign(shown[krum(shown, f)])
    least = min(scores(honest, max(1, n - f - 2)))
    start = np.sqrt(least / ((n - 2 * f - 1) * d)) + max(np.linalg.norm(row) for row in honest) / np.sqrt(d)
    return -search(honest, signs, f, start, threshold)[0] * signs


def partial(own, threshold=1e-5):
    f, d = own.shape
    signs = np.sign(own.mean(axis=0))
    for copies in range(1, f):
        least = min(scores(own, max(1, f - 2)))
        start = np.sqrt(least / (max(1, f - copies - 1) * d)) + max(map(np.linalg.norm, own)) / np.sqrt(d)
        factor, found = search(own, signs, copies, start, threshold)
        if found:
            break
    return -factor * signs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("m", "f"), [(4, 2), (9, 3), (12, 1), (3, 1)])
def test_krum_with_full_knowledge(seed, m, f):
    honest, own = draw(m, 30, seed=seed), draw(f, 30, seed=seed + 10)
    for trained in (None, own):
        sent = attacks.FangKrum()(honest, f, own=trained)
        np.testing.assert_allclose(sent, np.tile(full(honest, f, trained), (f, 1)), rtol=1e-9)


def test_krum_updates_that_nearly_agree():
    honest = 1.0 + 1e-6 * draw(8, 50)
    np.testing.assert_allclose(attacks.FangKrum()(honest, 3)[0], full(honest, 3), rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("f", [3, 4, 6])
def test_krum_with_partial_knowledge(seed, f):
    own = draw(f, 30, seed=seed)
    sent = attacks.FangKrum("partial")(np.empty((0, 30)), f, own=own)
    np.testing.assert_allclose(sent, np.tile(partial(own), (f, 1)), rtol=1e-9)


def test_krum_takes_what_it_sends():
    honest = draw(10, 200, seed=3)
    sent = attacks.FangKrum()(honest, 4)
    assert krum(np.concatenate([honest, sent]), 4) >= 10


def test_krum_a_search_that_fails_ends_below_its_threshold():
    honest = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    sent = attacks.FangKrum(threshold=0.1)(honest, 1)
    np.testing.assert_allclose(sent[0], full(honest, 1, threshold=0.1))


def test_krum_of_updates_that_are_zero_ends():
    assert not attacks.FangKrum()(np.zeros((5, 3)), 2).any()


def test_krum_what_is_missing():
    with pytest.raises(ValueError, match=r"n = 5 updates with f = 2; it needs n >= 2f \+ 2 = 6"):
        attacks.FangKrum()(draw(3, 4), 2)
    with pytest.raises(ValueError, match="no own updates"):
        attacks.FangKrum("partial")(draw(5, 4), 3)
    with pytest.raises(ValueError, match="it needs 3 or more"):
        attacks.FangKrum("partial")(draw(5, 4), 2, own=draw(2, 4))
    assert attacks.FangKrum()(draw(1, 4), 0).shape == (0, 4)


COLUMNS = {  # honest values, the interval with b = 2
    "above zero": ([1.0, 2.0, 3.0], (0.5, 1.0)),
    "minimum below zero": ([-1.0, 2.0, 3.0], (-2.0, -1.0)),
    "below zero": ([-1.0, -2.0, -3.0], (-1.0, -0.5)),
    "maximum above zero": ([1.0, -2.0, -3.0], (1.0, 2.0)),
    "zero": ([0.0, 0.0, 0.0], (0.0, 0.0)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_trimmed_mean_draws_beyond_the_extremes(name):
    values, (low, high) = COLUMNS[name]
    honest = np.tile(np.array(values)[:, None], (1, 2000))
    sent = attacks.FangTrimmedMean(seed=1)(honest, 2)
    assert sent.shape == (2, 2000)
    assert sent.min() >= low
    assert sent.max() <= high
    if low < high:
        assert abs(sent.mean() - (low + high) / 2) < 0.03 * (high - low)
        assert (sent[0] != sent[1]).all()


def test_trimmed_mean_with_partial_knowledge():
    own = np.array([[1.0, -1.0, 0.0], [3.0, -3.0, 0.0]])
    honest = np.empty((0, 3))
    for seed in range(20):
        sent = attacks.FangTrimmedMean("partial", seed=seed)(honest, 2, own=own)
        assert ((sent[:, 0] >= -2) & (sent[:, 0] <= -1)).all()  # mean 2, deviation 1
        assert ((sent[:, 1] >= 1) & (sent[:, 1] <= 2)).all()
        assert not sent[:, 2].any()
    with pytest.raises(ValueError, match="no own updates"):
        attacks.FangTrimmedMean("partial")(draw(3, 3), 2)


def test_trimmed_mean_draws_by_its_seed():
    honest = draw(5, 6)
    one, other = attacks.FangTrimmedMean(seed=3), attacks.FangTrimmedMean(seed=3)
    first = one(honest, 2)
    np.testing.assert_array_equal(first, other(honest, 2))
    assert (one(honest, 2) != first).any()
    one.reset()
    np.testing.assert_array_equal(one(honest, 2), first)
    assert one(honest.astype(np.float32), 2).dtype == np.float32
    assert one(honest, 0).shape == (0, 6)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("fang-krum", {"knowledge": "some"}),
        ("fang-krum", {"threshold": 0.0}),
        ("fang-trimmed-mean", {"knowledge": None}),
        ("fang-trimmed-mean", {"b": 0.5}),
        ("fang-trimmed-mean", {"b": np.nan}),
        ("fang-trimmed-mean", {"seed": -1}),
    ],
    ids=str,
)
def test_wrong_values(name, wrong):
    with pytest.raises(ValueError, match="was given"):
        attacks.from_spec(name, wrong)


def test_knowledge_is_declared():
    assert attacks.FangKrum().knows == "honest"
    assert attacks.FangKrum("partial").knows == attacks.FangTrimmedMean("partial").knows == "own"
