"""Krum: the row whose nearest neighbours are the nearest."""

from __future__ import annotations

from flwr_robust.rules.multi_krum import MultiKrum


class Krum(MultiKrum):
    r"""The row with the least sum of squared distances to its nearest other rows.

    $$F(X) = x_k, \quad k \in \operatorname*{argmin}_j \sum_{i \in N_j} \lVert x_j - x_i \rVert_p^2$$

    where N_j are the n - f - 1 nearest
    *other* rows (NNM counts the row itself, at distance zero, and so says n - f). Ties go to the
    lowest index. Needs n > 2f; kappa = 6 (1 + f/(n - 2f)).

    Source: NNM, section 8.1.2 and Proposition 3; MixTailor (3).

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    p : float
        Distances are of the lp norm, 1 <= p <= infinity; any p but 2 takes a pass over the data more.
    num_neighbors : int, optional
        Neighbours in a score; n - f - 2 is Blanchard et al.'s number and MixTailor's (3).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.Krum(f=1)(np.array([[0.0], [1.0], [1.5], [1000.0]]))
    array([1.])
    """

    name = "krum"
    source = "NNM 8.1.2, MixTailor (3)"

    def __init__(self, f: int | float = 0, p: float = 2, num_neighbors: int | None = None) -> None:
        super().__init__(f, m=1, p=p, num_neighbors=num_neighbors)

    def kappa(self, n: int, f: int) -> float | None:
        proven = self.p == 2 and self.num_neighbors in (None, n - f - 1)
        return 6 * (1 + f / (n - 2 * f)) if proven else None  # NNM, Proposition 3
