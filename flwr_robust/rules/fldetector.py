"""FLDetector: nodes whose updates are not what the earlier ones predict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray, Matrix, Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import whole_number
from flwr_robust.rules.gap_statistic import upper_cluster
from flwr_robust.rules.histories import PLACES, History, places_of, write
from flwr_robust.rules.inner import mean_of
from flwr_robust.rules.randomness import DRAWS, Random
from flwr_robust.rules.run import COLUMNS, State
from flwr_robust.rules.side_inputs import Told

# Nodes from which on clusters are looked for, and what of M is taken for singular.
JUDGED, SINGULAR = 3, 1e-12
# Of distances: sums of these are still finite.
FARTHEST = 1e150
# Stands for an error that there is not.
NONE = -1.0


class FLDetector(Random, Rule):
    r"""Mean of the rows of nodes whose updates are as consistent with the earlier ones as most.

    $$F(X) = \frac{1}{|G|} \sum_{i \in G} x_i, \quad
    e_i = \lVert x_i^{before} + H u_{last} - x_i \rVert$$

    with u the outputs of the calls so far, which are the model's moves, and H the compact L-BFGS matrix of the latest
    `window` pairs of an output and its change. Errors are divided by their sum; a node's score is the mean of its
    latest `window` errors, and nodes with fewer are not judged. If the gap statistic finds more than one cluster among
    the scores of at least three nodes, those in the upper of two (exact 2-means) are out. So nobody is out in the first
    ``2 window`` calls. The last update of each node is remembered, in the dtype of the rows, and ``window + 1``
    outputs: as much as the replies of the latest 1,000 nodes, and `window` models. Needs n >= 1.

    Source: Zhang, Cao, Jia and Gong, KDD 2022; they stop and train again without the nodes that are found, which a rule
    cannot. FLPoison pairs each change with the move behind it, and its count of clusters begins at 2, so that it
    "detects" in every round.

    Parameters
    ----------
    window : int
        Pairs, and errors, that count; 2 or more.
    references : int
        Sets of uniform numbers for the gap statistic; 2 or more.
    seed : int, optional
        Seed of these; by default from the operating system.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rule = rules.FLDetector(window=2, seed=1)
    >>> moves = np.random.default_rng(1).standard_normal((9, 1, 3))
    >>> for move in moves:
    ...     noise = np.array([[0.0], [0.1], [0.2], [0.3], [5.0]]) * np.random.default_rng(2).standard_normal((5, 3))
    ...     found = rule(0.1 * move + noise * move)
    >>> found.shape
    (3,)
    """

    name = "fldetector"
    needs = Needs.DISTANCES
    takes_f = False
    optional = ("ids",)
    remembers = (DRAWS, *PLACES, "updates", "errors", "outputs", "calls", COLUMNS)
    requirement = "n >= 1"
    source = "FLDetector"
    breakdown = "not proven"
    masked = True
    cost = "2, and one to remember"

    def __init__(self, window: int = 10, references: int = 20, seed: int | None = None) -> None:
        super().__init__()
        self.window: int = whole_number(window, "window", "FLDetector", at_least=2)
        self.references: int = whole_number(references, "references", "FLDetector", at_least=2)
        self.seed = whole_number(seed, "seed", "FLDetector", at_least=0, or_none=True)

    def beside(self, remembered: State, told: Told, n: int, d: int) -> Mapping[str, FloatArray]:
        if int(remembered.get("calls", 0)) <= self.window:
            return {}
        places = places_of(remembered, told.names)
        before = {_before(name): remembered["updates"][place] for name, place in places.items()}
        return before | {_output(k): output for k, output in enumerate(remembered["outputs"])}

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        calls = int(rows.remembered.get("calls", 0))
        history = History(rows.remembered, rows.names)
        errors = history.resized(rows.remembered.get("errors"), (self.window,), np.float64, NONE).copy()
        if calls > self.window:
            now = self._errors(rows, calls)
            known = np.flatnonzero(np.isfinite(now))
            errors[history.places[known], :-1] = errors[history.places[known], 1:]
            errors[history.places[known], -1] = now[known]
        out = self._outliers(errors[history.places], rows)
        vector = rows.combine(mean_of(~out, rows.count))
        updates = history.resized(rows.remembered.get("updates"), (rows.d,), rows.dtype)
        outputs = rows.remembered.get("outputs", np.zeros((self.window + 1, 0))).astype(rows.dtype, copy=False)
        if outputs.shape[1] != rows.d:
            outputs = np.zeros((self.window + 1, rows.d), rows.dtype)

        def overwrite() -> None:
            write(rows, updates, history.places)
            outputs[calls % len(outputs)] = vector

        rows.defer(overwrite)
        rows.hand_over(updates=updates, errors=errors, outputs=outputs, calls=np.array(calls + 1))
        rows.hand_over(**history.remembered())
        return vector

    def _outliers(self, errors: Matrix, rows: Rows) -> NDArray[np.bool_]:
        """Which rows are out, given the latest errors of their nodes: those that lack some are not judged."""
        out, judged = np.zeros(rows.count, dtype=bool), np.flatnonzero((errors != NONE).all(axis=1))
        if len(judged) >= JUDGED:
            out[judged] = upper_cluster(errors[judged].mean(axis=1), self.references, rows.generator())
        return out

    def _errors(self, rows: Rows, calls: int) -> Weights:
        """Return how far each row is from its prediction, as a share of all; NaN for nodes without an update before."""
        inner = rows.with_remembered().inner_from_origin
        order = [(calls + k) % (self.window + 1) for k in range(self.window + 1)]
        outputs = [place for k in order if (place := rows.place(_output(k))) is not None]
        step = np.zeros(len(inner))
        step[outputs] = hessian_step(inner[np.ix_(outputs, outputs)])
        errors = np.full(rows.count, np.nan)
        for row, name in enumerate(rows.names):
            before = rows.place(_before(name))
            if before is not None:
                difference = step.copy()
                difference[before] += 1.0
                difference[row] -= 1.0
                errors[row] = min(max(float(difference @ inner @ difference), 0.0) ** 0.5, FARTHEST)
        total = float(np.nansum(errors))
        return errors / total if total else errors


def hessian_step(inner: Matrix) -> Weights:
    """Return ``H u`` for the latest of some outputs u, as weights of these, from their inner products, oldest first.

    ``H v = g v - [g S, Y] M^+ [g S^T v; Y^T v]`` with ``M = [[g S^T S, L], [L^T, -D]]``, where the columns of S are the
    outputs but the latest one, those of Y their changes to the next one, L the part of ``S^T Y`` below its diagonal D,
    and ``g = <y, s> / <s, s>`` of the latest pair: Byrd, Nocedal and Schnabel, 1994.
    """
    m = len(inner) - 1
    scale = float(inner.diagonal().max()) or 1.0
    inner = inner / scale
    S, Y = np.eye(m + 1)[:m], np.eye(m + 1)[1:] - np.eye(m + 1)[:m]
    v = np.eye(m + 1)[m]
    square = float(inner[m - 1, m - 1])
    if square == 0.0:
        return np.zeros(m + 1)
    g = float(Y[-1] @ inner @ S[-1]) / square
    products = S @ inner @ Y.T
    lower = np.tril(products, -1)
    M = np.block([[g * (S @ inner @ S.T), lower], [lower.T, -np.diag(products.diagonal())]])
    right = np.concatenate([g * (S @ inner @ v), Y @ inner @ v])
    solved = np.linalg.pinv(M, rcond=SINGULAR) @ right
    step: Weights = g * v - solved @ np.vstack([g * S, Y])
    return step


def _before(name: str) -> str:
    return f"last of {name}"


def _output(place: int) -> str:
    return f"output {place}"
