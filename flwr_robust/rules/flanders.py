"""FLANDERS: models that are not where an autoregression of the earlier ones expects them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray, Matrix
from flwr_robust.engine.rows import Rows, lowest
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.histories import PLACES, History
from flwr_robust.rules.inner import mean_of
from flwr_robust.rules.randomness import DRAWS, Random
from flwr_robust.rules.run import COLUMNS


class FLANDERS(Random, Rule):
    r"""Mean of the n - f rows whose models are nearest to what an autoregression of the earlier ones expects.

    $$F(X) = \frac{1}{n - f} \sum_{i \in G} x_i, \quad
    \hat{T}_{t+1} = A T_t B^T, \quad A, B = \operatorname*{argmin}_{A, B} \sum_t \lVert T_{t+1} - A T_t B^T \rVert^2
    + \alpha \lVert A \rVert^2 + \beta \lVert B \rVert^2$$

    where the rows of T_t are the nodes' models in call t, in some columns that are drawn once, and G the n - f rows
    with the least squared distance to the prediction for this call. A and B are fitted in turns, from unit matrices, to
    the latest `window` calls before it, all divided by their largest absolute value; a node that was not there has the
    model that was sent then. With fewer than two earlier calls: the mean. Remembered are the sampled models, window
    times subsample numbers for each of the latest 1,000 nodes. Needs n > 2f and the model.

    Source: Gabrielli, Belli, Matrullo, Miori and Tolomei, IEEE TIFS 2025. Flower's baseline starts its sums at zero, so
    that the last matrix counts as the first one's predecessor, and divides by a maximum after subtracting a minimum.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    window : int
        Earlier calls that are fitted; 2 or more.
    subsample : int
        Columns that are looked at; all of them where there are fewer.
    iterations : int
        Turns of the fit.
    alpha : float
        Weight of the size of A.
    beta : float
        Weight of the size of B.
    seed : int, optional
        Seed of the columns; by default from the operating system.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rule, X = rules.FLANDERS(f=1, seed=1), np.array([[1.0], [2.0], [3.0]])
    >>> _ = rule(X, model=np.array([1.0])), rule(X, model=np.array([2.0]))
    >>> rule(np.array([[1.0], [2.0], [900.0]]), model=np.array([3.0]))
    array([1.5])
    """

    name = "flanders"
    requires = ("model",)
    optional = ("ids",)
    remembers = (DRAWS, *PLACES, "sampled", "rows", "there", "models", "calls", COLUMNS)
    requirement = "n > 2f, the model"
    source = "FLANDERS"
    breakdown = "not proven"
    masked = True
    cost = "1, and 500 columns"

    def __init__(
        self,
        f: int | float = 0,
        window: int = 10,
        subsample: int = 500,
        iterations: int = 100,
        alpha: float = 1.0,
        beta: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(f)
        self.window: int = whole_number(window, "window", "FLANDERS", at_least=2)
        self.subsample: int = whole_number(subsample, "subsample", "FLANDERS")
        self.iterations: int = whole_number(iterations, "iterations", "FLANDERS")
        self.alpha = number(alpha, "alpha", "FLANDERS", above=0)
        self.beta = number(beta, "beta", "FLANDERS", above=0)
        self.seed = whole_number(seed, "seed", "FLANDERS", at_least=0, or_none=True)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        calls, sampled = int(rows.remembered.get("calls", 0)), rows.remembered.get("sampled")
        if sampled is None:
            size = min(self.subsample, rows.d)
            sampled = np.sort(rows.generator().choice(rows.d, size, replace=False, shuffle=False))
        model = rows.given["model"][sampled].astype(np.float64)
        now = model + rows.take(sampled)
        history = History(rows.remembered, rows.names)
        shape = (self.window, len(sampled))
        kept = history.resized(rows.remembered.get("rows"), shape, np.float64).copy()
        there = history.resized(rows.remembered.get("there"), (self.window,), np.bool_).copy()
        sent = rows.remembered.get("models", np.zeros(shape)).copy()
        earlier = _earlier(kept[history.places], there[history.places], sent, min(calls, self.window))
        chosen = list(range(rows.count))
        if f and len(earlier) > 1 and len(sampled):
            chosen = lowest(self._distances(earlier, now), rows.count - f)
        kept[:, :-1], there[:, :-1], sent[:-1] = kept[:, 1:].copy(), there[:, 1:].copy(), sent[1:].copy()
        kept[:, -1], there[:, -1], sent[-1] = 0.0, False, model
        kept[history.places, -1], there[history.places, -1] = now, True
        rows.hand_over(sampled=sampled, rows=kept, there=there, models=sent, calls=np.array(calls + 1))
        rows.hand_over(**history.remembered())
        return rows.combine(mean_of(chosen, rows.count))

    def _distances(self, earlier: Sequence[Matrix], now: Matrix) -> Matrix:
        """Squared distance of each row from what is expected of it."""
        largest = max(float(np.abs(matrix).max()) for matrix in earlier) or 1.0
        scaled = [matrix / largest for matrix in earlier]
        A, B = autoregression(scaled, self.iterations, self.alpha, self.beta)
        differences = now / largest - A @ scaled[-1] @ B.T
        # Relative to the largest, whose square may be beyond float64; they are only compared.
        differences /= float(np.abs(differences).max()) or 1.0
        distances: Matrix = np.square(differences).sum(axis=1)
        return distances


def _earlier(rows: Matrix, there: NDArray[np.bool_], sent: Matrix, count: int) -> list[Matrix]:
    """Return the nodes' models (m, s) in each of the latest calls, oldest first: of absent ones, what was sent."""
    return [np.where(there[:, -k, None], rows[:, -k], sent[-k]) for k in range(count, 0, -1)]


def autoregression(T: Sequence[Matrix], iterations: int, alpha: float, beta: float) -> tuple[Matrix, Matrix]:
    """Fit ``T_{t+1} ~ A T_t B^T`` by alternating least squares, from unit matrices.

    Parameters
    ----------
    T : sequence of (m, s) float64 arrays
        At least two.
    iterations : int
        Of both steps.
    alpha, beta : float
        Weights of the squares of A and B.
    """
    before, behind = np.stack(T[:-1]), np.stack(T[1:])
    m, s = before.shape[1:]
    targets, moved = behind.reshape(-1, s), before
    for _ in range(iterations):
        products = np.einsum("tis,tjs->ij", behind, moved, optimize=True)
        squares = np.einsum("tis,tjs->ij", moved, moved, optimize=True)
        A = np.linalg.solve(squares + alpha * np.eye(m), products.T).T
        # B is targets^T factor: it is as large as s by s, but of no higher rank than there are rows.
        factor = _ridge((A @ before).reshape(-1, s), beta)
        moved = before @ factor.T @ targets
    return A, targets.T @ factor


def _ridge(rows: Matrix, weight: float) -> Matrix:
    """Return ``X (X^T X + w I)^-1`` of rows X, by the smaller of the two systems that give it."""
    k, s = rows.shape
    if k < s:
        return np.asarray(np.linalg.solve(rows @ rows.T + weight * np.eye(k), rows), dtype=np.float64)
    return np.asarray(np.linalg.solve(rows.T @ rows + weight * np.eye(s), rows.T).T, dtype=np.float64)
