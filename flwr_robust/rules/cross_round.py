"""The cross-round check: look for outliers only where a node's model has turned away from what it was."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number
from flwr_robust.rules.flame import inner_of_models
from flwr_robust.rules.histories import PLACES, History, places_of, write
from flwr_robust.rules.inner import cosines, mean_of
from flwr_robust.rules.run import COLUMNS, State
from flwr_robust.rules.side_inputs import Told
from flwr_robust.rules.three_sigma import outliers


class CrossRound(Rule):
    r"""Mean of the rows but for outliers among those whose models are unlike the last ones.

    $$F(X) = \frac{1}{|G|} \sum_{i \in G} x_i, \quad
    i \notin G \iff \min(\cos(W_i, L_i), \cos(W_i, w)) < b \text{ and ThreeSigma's test on all rows drops } i$$

    with w the model that was sent, ``W_i = w + x_i``, and L_i the last accepted model of that node, or w if there is
    none. In the first call all rows are suspicious; the test is not made where none is. The model of each accepted node
    is remembered, in the dtype of the rows: as much as the replies of the latest 1,000 nodes. Needs n >= 1 and the
    model.

    Source: Han et al., Kick Bad Guys Out!, 2023, first stage. FedML renews what it remembers only in rounds with a
    suspect.

    Parameters
    ----------
    bound : float
        b, the cosine below which a model is suspicious, in [-1, 1].
    sigmas : float
        As in `ThreeSigma`.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> X = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0], [-90.0, 1.0]])
    >>> rules.CrossRound()(X, model=np.array([5.0, 0.0]))
    array([2., 1.])
    """

    name = "cross-round"
    needs = Needs.DISTANCES
    takes_f = False
    requires = ("model",)
    optional = ("ids",)
    measured = ("model",)
    remembers = (*PLACES, "models", "accepted", "calls", COLUMNS)
    requirement = "n >= 1, the model"
    source = "Han et al., 2023"
    breakdown = "not proven"
    masked = True
    cost = "2, and one to remember"

    def __init__(self, bound: float = 0.5, sigmas: float = 0.5) -> None:
        super().__init__()
        self.bound = number(bound, "bound", "CrossRound", at_least=-1, at_most=1)
        self.sigmas = number(sigmas, "sigmas", "CrossRound", at_least=0)

    def beside(self, remembered: State, told: Told, n: int, d: int) -> Mapping[str, FloatArray]:
        places = places_of(remembered, told.names)
        models = {_last(name): remembered["models"][p] for name, p in places.items() if remembered["accepted"][p]}
        return {**super().beside(remembered, told, n, d), **models}

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        calls = int(rows.remembered.get("calls", 0))
        dropped = self._suspicious(rows) if calls else np.ones(rows.count, dtype=bool)
        if dropped.any():
            dropped &= outliers(rows.geometry, self.sigmas, first=calls == 0)
        vector = rows.combine(mean_of(~dropped, rows.count))
        self._remember(rows, ~dropped, calls + 1)
        return vector

    def _suspicious(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows make models unlike the node's last one, or the one that was sent."""
        alike = cosines(inner_of_models(rows))
        sent, own = rows.place("model"), np.arange(rows.count)
        assert sent is not None
        last = np.array([rows.place(_last(name)) or sent for name in rows.names])
        found: NDArray[np.bool_] = np.minimum(alike[own, sent], alike[own, last]) < self.bound
        return found

    def _remember(self, rows: Rows, kept: NDArray[np.bool_], calls: int) -> None:
        """Keep the models of the accepted rows."""
        history = History(rows.remembered, rows.names)
        models = history.resized(rows.remembered.get("models"), (rows.d,), rows.dtype)
        accepted = history.resized(rows.remembered.get("accepted"), (), np.bool_).copy()
        accepted[history.places[kept]] = True
        sent = rows.given["model"]
        places, which = history.places[kept], np.flatnonzero(kept).tolist()
        rows.defer(lambda: write(rows, models, places, which, lambda columns: sent[columns]))
        rows.hand_over(models=models, accepted=accepted, calls=np.array(calls), **history.remembered())


def _last(name: str) -> str:
    return f"last of {name}"
