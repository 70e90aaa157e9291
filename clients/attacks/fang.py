"""Attacks that know the rule's kind (Fang, Cao, Jia and Gong, USENIX Security 2020), in updates instead of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.rules.checks import number

from .base import Attack
from .moments import Matrix, Vector, column_deviations, column_means, inner_products
from .noise import Randomised
from .sight import Sight, repeat
from .tuning import OPTIMAL, Tunable

KNOWLEDGE = ("full", "partial")


@dataclass(frozen=True)
class FangKrum(Attack):
    r"""Send as far against the honest direction as Krum still accepts (Fang et al., USENIX Security 2020, section 4.2).

    $$b = -\lambda s, \qquad s = \text{sign}(\text{Krum}(x_1, \dots))$$

    sent by all f nodes. Lambda starts at
    ``sqrt(min_i K_i / ((n - 2f - 1) d)) + max_i |x_i| / sqrt(d)``, with Krum's score K_i of an honest update among the
    honest ones, and is halved until Krum picks the copies.

    Parameters
    ----------
    knowledge : {"full", "partial"}
        The honest updates; or the attackers' own alone, of which there must be three or more: these then stand for the
        honest ones, beside 1 to f - 1 copies.
    threshold : float
        Share of the first lambda below which the search ends, above 0.

    Notes
    -----
    Krum has ``max(1, rows - f - 2)`` neighbours here. Needs n >= 2f + 2 with full knowledge.
    """

    knowledge: str = "full"
    threshold: float = 1e-5

    knows = "honest"

    def __post_init__(self) -> None:
        _check_knowledge(self)
        number(self.threshold, "threshold", "FangKrum", above=0)

    def craft(self, sight: Sight) -> Matrix:
        if not sight.f:
            return sight.honest[:0]
        return self._partial(sight) if self.knowledge == "partial" else self._full(sight)

    def _full(self, sight: Sight) -> Matrix:
        f, n = sight.f, sight.num_honest + sight.f
        if n < 2 * f + 2:
            raise ValueError(f"FangKrum was given n = {n} updates with f = {f}; it needs n >= 2f + 2 = {2 * f + 2}.")
        rows = sight.honest
        if sight.unseen:
            rows = np.concatenate([rows, repeat(sight.mean, sight.unseen, rows)])
        shown = rows if sight.trained is None else np.concatenate([rows, sight.trained])
        signs = np.sign(shown[_pick(_squares(shown), max(1, len(shown) - f - 2))])
        search = _Search(rows, signs, f)
        _, update = search.run(search.bound(max(1, n - f - 2), n - 2 * f - 1), max(1, n - f - 2), self.threshold)
        return repeat(update, f, sight.honest)

    def _partial(self, sight: Sight) -> Matrix:
        f, own = sight.f, _own(self, sight)
        if f < 3:
            raise ValueError(f'FangKrum(knowledge="partial") was given f = {f} nodes; it needs 3 or more.')
        signs = np.sign(column_means(own))
        for copies in range(1, f):
            search = _Search(own, signs, copies)
            start = search.bound(max(1, f - 2), max(1, f - copies - 1))
            found, update = search.run(start, max(1, f - 2), self.threshold)
            if found:
                break
        return repeat(update, f, own)


class _Search:
    """The search for lambda: Krum among some rows and copies of ``-lambda s``, from inner products alone."""

    def __init__(self, rows: Matrix, signs: Vector, copies: int) -> None:
        mean = column_means(rows)
        self._signs = signs.astype(np.float64)
        self._columns = max(rows.shape[1], 1)
        self._copies = copies
        # Of the centred rows, the signs, and the mean: distances of rows that nearly agree keep their digits.
        gram = inner_products(rows, mean, self._signs, mean)
        self._between = _distances(gram[:-2, :-2])
        self._own = gram.diagonal()[:-2]
        self._along, self._to_mean = gram[:-2, -2], gram[:-2, -1]
        self._signs_mean, self._length, self._mean = gram[-2, -1], gram[-2, -2], gram[-1, -1]

    def bound(self, neighbours: int, divisor: int) -> float:
        """Return the first lambda."""
        longest = np.max(self._own + 2 * self._to_mean + self._mean)
        least = _scores(self._between, neighbours).min()
        return float(np.sqrt(least / (divisor * self._columns)) + np.sqrt(max(longest, 0.0) / self._columns))

    def run(self, start: float, neighbours: int, threshold: float) -> tuple[bool, Vector]:
        """Return whether Krum picks a copy, and the copies."""
        factor, found = start, False
        while factor > 0 and factor >= threshold * start:
            found = _pick(self._with_copies(factor), neighbours) >= len(self._own)
            if found:
                break
            factor /= 2
        return found, -factor * self._signs

    def _with_copies(self, factor: float) -> NDArray[np.float64]:
        """Return the squared distances between all rows, copies last."""
        to_copy = self._own + 2 * (self._to_mean + factor * self._along)
        to_copy += self._mean + 2 * factor * self._signs_mean + factor**2 * self._length
        m = len(self._own)
        squares = np.zeros((m + self._copies,) * 2)
        squares[:m, :m] = self._between
        squares[:m, m:] = to_copy[:, None]
        squares[m:, :m] = to_copy[None]
        return np.maximum(squares, 0.0)


def _squares(rows: Matrix) -> NDArray[np.float64]:
    return _distances(inner_products(rows, column_means(rows)))


def _distances(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared distances, from inner products."""
    own = gram.diagonal()
    squares = np.maximum(own[:, None] + own[None, :] - 2 * gram, 0.0)
    np.fill_diagonal(squares, 0.0)
    return squares


def _scores(squares: NDArray[np.float64], neighbours: int) -> Vector:
    """Return Krum's scores: sums of the squared distances to the nearest other rows."""
    others = squares + np.diag(np.full(len(squares), np.inf))
    nearest = np.sort(others, axis=1)[:, : min(neighbours, len(squares) - 1)]
    scores: Vector = nearest.sum(axis=1)
    return scores


def _pick(squares: NDArray[np.float64], neighbours: int) -> int:
    return int(np.argmin(_scores(squares, neighbours)))


@dataclass(frozen=True)
class FangTrimmedMean(Randomised, Tunable):
    """Send beyond the honest extremes, against the honest direction (Fang et al., USENIX Security 2020, section 4.3).

    Each node and coordinate draws uniformly. Where the honest mean is positive, from ``[min / b, min]`` if the honest
    minimum is positive, else ``[b min, min]``; where it is negative, from ``[max, b max]`` if the honest maximum is
    positive, else ``[max, max / b]``; where it is zero, the mean is sent.

    Parameters
    ----------
    knowledge : {"full", "partial"}
        The honest updates; or the attackers' own alone: values are then drawn from ``[mean - 4 std, mean - 3 std]``
        where the mean of these is positive, and from ``[mean + 3 std, mean + 4 std]`` where it is negative.
    b : float or "optimal"
        How far beyond the extremes, 1 or more.
    seed : int, optional
        See `Randomised`.
    """

    knowledge: str = "full"
    b: float | str = 2.0

    knows = "honest"
    tuned: ClassVar[str] = "b"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_knowledge(self)
        if self.b != OPTIMAL:
            number(self.b, "b", "FangTrimmedMean", at_least=1)
        Tunable.__post_init__(self)

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return 1 to 100, ten a decade."""
        return tuple(10 ** (step / 10) for step in range(21))

    def craft_with(self, sight: Sight) -> Matrix:
        if not sight.f:
            return sight.honest[:0]
        between = self._around_own if self.knowledge == "partial" else self._beyond
        nearest, farthest = between(sight)
        draws = self.draws.next().random((sight.f, len(nearest)))
        with np.errstate(over="ignore"):
            sent: Matrix = (nearest + draws * (farthest - nearest)).astype(sight.honest.dtype)
        return sent

    def _beyond(self, sight: Sight) -> tuple[Vector, Vector]:
        """Return the ends of the intervals: the honest extreme, and beyond it."""
        rows, mean, b = sight.known, sight.mean, float(self.b)
        extreme = np.where(mean > 0, rows.min(axis=0), rows.max(axis=0)).astype(np.float64)
        # Away from zero where the extreme lies on the side that the values go to, else towards it.
        outwards = np.where(mean > 0, extreme <= 0, extreme > 0)
        farthest = np.where(outwards, b * extreme, extreme / b)
        return np.where(mean == 0, mean, extreme), np.where(mean == 0, mean, farthest)

    def _around_own(self, sight: Sight) -> tuple[Vector, Vector]:
        own = _own(self, sight)
        mean = column_means(own)
        away = -np.sign(mean) * column_deviations(own, 0, mean)
        return mean + 3 * away, mean + 4 * away


def _check_knowledge(attack: Any) -> None:
    if attack.knowledge not in KNOWLEDGE:
        raise ValueError(
            f'{type(attack).__name__} was given knowledge = {attack.knowledge!r}; give "full" or "partial".'
        )
    if attack.knowledge == "partial":
        object.__setattr__(attack, "knows", "own")


def _own(attack: Attack, sight: Sight) -> Matrix:
    """Return the malicious nodes' own updates.

    Raises
    ------
    ValueError
        If they are not known.
    """
    if sight.trained is None:
        raise ValueError(
            f'{type(attack).__name__}(knowledge="partial") was given no own updates; give own=, (f, d), or '
            'knowledge="full".'
        )
    return sight.trained
