"""What is found in each column by itself: sums of signs, cuts in two, lines through the sorted values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.kernels.compiled import compiled


@compiled()
def sum_of_signs(block: NDArray[Any], out: NDArray[np.int64]) -> None:
    """Add the signs of each column's values to ``out`` (columns,)."""
    for i in range(block.shape[0]):
        row = block[i]
        for c in range(row.size):
            out[c] += np.int64(row[c] > 0) - np.int64(row[c] < 0)


@compiled()
def _sort(values: NDArray[np.float64], order: NDArray[np.int64]) -> None:
    """Sort a column's values in place, and write down where they came from: equal ones stay in their order."""
    for i in range(values.size):
        value, place = values[i], i
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            order[place] = order[place - 1]
            place -= 1
        values[place] = value
        order[place] = i


@compiled()
def _load(block: NDArray[Any], column: int, values: NDArray[np.float64]) -> float:
    """Copy a column relative to its largest absolute value, which is returned: no difference of two overflows."""
    largest = 0.0
    for i in range(values.size):
        largest = max(largest, abs(np.float64(block[i, column])))
    for i in range(values.size):
        values[i] = np.float64(block[i, column]) / largest if largest > 0.0 else 0.0
    return largest


@compiled()
def _middle(values: NDArray[np.float64]) -> Any:
    """Return the median of values, which are overwritten: of an even number the mean of the middle two."""
    count = values.size
    low, high, middle = 0, count - 1, count // 2
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            break
    if count % 2:
        return values[middle]
    below = values[0]
    for i in range(1, middle):
        below = max(below, values[i])
    return (below + values[middle]) / 2.0


# ---------------------------------------------------------------- two means


@compiled()
def best_cut(values: NDArray[np.float64]) -> tuple[int, float]:
    """Return how many of the sorted values are in the lower of two clusters, and how far apart the centres are.

    The cut, between two different values, that leaves the least squared distances to the centres; of several the one
    with the smaller lower part. Equal values have none: 0 and 0.
    """
    count, total = values.size, values.sum()
    best, size, apart, below = -1.0, 0, 0.0, 0.0
    for k in range(1, count):
        below += values[k - 1]
        if values[k] <= values[k - 1]:
            continue
        distance = (total - below) / (count - k) - below / k
        between = distance * distance * k * (count - k)
        if between > best * (1.0 + 1e-12):
            best, size, apart = between, k, distance
    return size, apart


@compiled()
def distances_of_centres(block: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the distance between the centres of the two means of each column into ``out`` (columns,)."""
    values, order = np.empty(block.shape[0]), np.empty(block.shape[0], np.int64)
    for c in range(block.shape[1]):
        scale = _load(block, c, values)
        _sort(values, order)
        out[c] = best_cut(values)[1] * scale


@compiled()
def vote(block: NDArray[Any], chosen: NDArray[np.bool_], votes: NDArray[np.int64]) -> None:
    """Add a vote against each row of the smaller of the two clusters of each chosen column to ``votes`` (rows,)."""
    count = block.shape[0]
    values, order = np.empty(count), np.empty(count, np.int64)
    for c in range(block.shape[1]):
        if not chosen[c]:
            continue
        _load(block, c, values)
        _sort(values, order)
        below = best_cut(values)[0]
        first, last = (0, below) if 2 * below < count else (below, count)
        if below > 0 and 2 * below != count:
            for place in range(first, last):
                votes[order[place]] += 1


# ---------------------------------------------------------------- repeated median lines


@compiled()
def _slope(values: NDArray[np.float64], work: NDArray[np.float64], medians: NDArray[np.float64]) -> Any:
    """Return the repeated median of the slopes between the sorted values, one apart: ``median_i median_{k != i}``."""
    count = values.size
    for i in range(count):
        place = 0
        for k in range(count):
            if k != i:
                work[place] = (values[i] - values[k]) / (i - k)
                place += 1
        medians[i] = _middle(work[: count - 1])
    return _middle(medians)


@compiled()
def _weigh_residuals(
    values: NDArray[np.float64],
    slope: float,
    lam: float,
    line: NDArray[np.float64],
    weights: NDArray[np.float64],
    work: NDArray[np.float64],
) -> None:
    """Write the line through the sorted values, of a column whose largest is 1, and their weights."""
    count = values.size
    centre, rbar = (values[(count - 1) // 2] + values[count // 2]) / 2.0, (count - 1) / 2.0
    spread, nothing = count * (count * count - 1.0) / 12.0, 1e-13
    least = np.inf
    for i in range(count):
        line[i] = centre + slope * (i - rbar)
        work[i] = abs(values[i] - line[i])
        weights[i] = work[i]
        least = min(least, work[i])
    # The median without the smallest one: that is put at the end, which is left out.
    for i in range(count):
        if work[i] == least:
            work[i] = work[count - 1]
            break
    tau = 1.4826 * (1.0 + 5.0 / (count - 1)) * _middle(work[: count - 1])
    for i in range(count):
        residual, offset = weights[i], i - rbar
        if tau <= nothing:
            weights[i] = 1.0 if residual <= nothing else 0.0
        elif residual == 0.0:
            weights[i] = 1.0
        else:
            leverage = np.sqrt(max(1.0 - 1.0 / count - offset * offset / spread, 0.0))
            weights[i] = min(1.0, lam * np.sqrt(2.0 / count) * leverage * tau / residual)


@compiled()
def score_residuals(block: NDArray[Any], lam: float, slopes: NDArray[Any], scores: NDArray[np.float64]) -> None:
    """Add up each row's weights, times their sample deviation in the column, in ``scores`` (rows,); keep the slopes."""
    count = block.shape[0]
    values, order = np.empty(count), np.empty(count, np.int64)
    line, weights, work = np.empty(count), np.empty(count), np.empty(count)
    for c in range(block.shape[1]):
        _load(block, c, values)
        _sort(values, order)
        slope = _slope(values, work, line)
        slopes[c] = slope
        _weigh_residuals(values, slope, lam, line, weights, work)
        mean, squares = weights.sum() / count, 0.0
        for i in range(count):
            squares += (weights[i] - mean) ** 2
        deviation = np.sqrt(squares / (count - 1))
        for i in range(count):
            scores[order[i]] += weights[i] * deviation


@compiled()
def mean_of_corrected(
    block: NDArray[Any],
    lam: float,
    threshold: float,
    slopes: NDArray[Any],
    shares: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write the weighted mean of each column, whose values of little weight are moved to the line, into ``out``."""
    count = block.shape[0]
    values, order = np.empty(count), np.empty(count, np.int64)
    line, weights, work = np.empty(count), np.empty(count), np.empty(count)
    for c in range(block.shape[1]):
        scale = _load(block, c, values)
        _sort(values, order)
        _weigh_residuals(values, np.float64(slopes[c]), lam, line, weights, work)
        total = 0.0
        for i in range(count):
            total += shares[order[i]] * (line[i] if weights[i] < threshold else values[i])
        out[c] = total * scale
