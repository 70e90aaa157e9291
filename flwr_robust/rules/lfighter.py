"""LFighter: cluster the nodes by the output layer's weights of the two classes that change most."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray, Matrix
from flwr_robust.engine.passes import SMALLEST_UNIT, keep_largest, zeros
from flwr_robust.engine.rows import Rows
from flwr_robust.engine.updates import Layer, pieces
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import name_of_layer


class LFighter(Rule):
    r"""Mean of the larger and more consistent of two clusters of nodes: against label flipping.

    $$F(X) = \bar{x}_C, \quad C \in \operatorname*{argmax}_{C \in \{C_1, C_2\}}
    \frac{1}{n} \sum_{i \in C} (1 - \min_{j \in C} \cos(g_i, g_j))$$

    Of the output layer's weight (classes, features) the two classes with the largest norms, summed over the
    nodes, are taken; KMeans splits the nodes in two by their updates g of these; the cluster with the larger
    score is kept. A node's similarity to itself counts as 0. Needs a 2-D layer and n >= 1; takes no f.

    One row far away is a cluster of its own, and leaves all others in one: on its own this rule falls to one row at
    10^6 times the honest ones' size beside two at 10^4. `ARC` or `StaticClipping` in front prevents it.

    Source: LPA, section 5.1 and its code (Jebreel et al., 2024).

    Parameters
    ----------
    output_layer : str, optional
        Name of the output layer's weight; by default the last 2-D layer.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import LFighter
    >>> X = np.array([[1.0, 0.0, 0.0, 1.0], [1.1, 0.0, 0.0, 1.1], [-9.0, 0.0, 0.0, -9.0], [0.9, 0.0, 0.0, 0.9]])
    >>> LFighter()(X, layers=[("fc.weight", (2, 2))])
    array([1., 0., 0., 1.])
    """

    name = "lfighter"
    masked = True
    takes_f = False
    requirement = "a 2-D output layer"
    source = "LPA 5.1"
    breakdown = "not proven"
    cost = "1, and parts of the output layer"

    def __init__(self, output_layer: str | None = None) -> None:
        super().__init__()
        self.output_layer = name_of_layer(output_layer, "output_layer", "LFighter")

    def require_layers(self, layers: Sequence[Layer]) -> None:
        self._output(layers)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        layer = self._output(rows.layers)
        kept = _kept_cluster(self._two_classes(rows, layer), min(2, layer.shape[0]) * layer.shape[1])
        return rows.combine(kept / kept.sum())

    def _output(self, layers: Sequence[Layer]) -> Layer:
        flat = [layer for layer in layers if len(layer.shape) == 2]
        named = [layer for layer in flat if self.output_layer in (None, layer.name)]
        if not named:
            wanted = "no 2-D layer" if self.output_layer is None else f"no 2-D layer named {self.output_layer!r}"
            there = ", ".join(f"{layer.name} {layer.shape}" for layer in layers[:20]) or "none"
            raise ValueError(
                f"LFighter found {wanted} to take as the output layer's weight (classes, features); the layers "
                f"are {there}: name one with output_layer, or give layers=."
            )
        return named[-1]

    def _two_classes(self, rows: Rows, layer: Layer) -> Matrix:
        """(m, m) inner products of the nodes' updates of the two classes that change most."""
        classes, features = layer.shape
        parts = tuple(
            Layer(str(c), (features,), layer.start + c * features, layer.start + (c + 1) * features)
            for c in range(classes)
        )

        columns = (layer.start, layer.stop)
        unit = float(rows.scan(_keep_largest, zeros(1), keep_largest, columns=columns)[0])
        unit = max(unit, SMALLEST_UNIT) if rows.dtype == np.float64 else 1.0

        def add_squares(block: FloatArray, start: int, squares: NDArray[np.float64]) -> None:
            for place, first, last, at in pieces(parts, start, start + block.shape[1]):
                part = block[:, at : at + last - first].astype(np.float64) / unit
                squares[:, place] += np.einsum("ij,ij->i", part, part)

        def add_products(block: FloatArray, _: int, products: Matrix) -> None:
            part = block / unit
            products += part @ part.T

        change = np.sqrt(rows.scan(add_squares, zeros(rows.count, classes), columns=columns)).sum(axis=0)
        inner = np.zeros((rows.count, rows.count))
        for place in np.argsort(-change, kind="stable")[:2]:
            columns = (parts[int(place)].start, parts[int(place)].stop)
            inner += rows.scan(add_products, zeros(rows.count, rows.count), columns=columns, dtype=np.float64)
        return inner


def _keep_largest(block: FloatArray, _: int, largest: NDArray[np.float64]) -> None:
    largest[0] = max(largest[0], np.abs(block).max(initial=0.0))


def _kept_cluster(inner: Matrix, features: int) -> NDArray[np.bool_]:
    """Which nodes are in the cluster that is kept, given the inner products of their updates of so many values."""
    labels = _two_clusters(inner, features)
    norms = np.sqrt(inner.diagonal())
    products = norms[:, None] * norms[None, :]
    similarity = np.divide(inner, products, out=np.zeros_like(inner), where=products > 0)
    np.fill_diagonal(similarity, 0.0)
    best, kept = -np.inf, np.ones(len(inner), dtype=bool)
    for label in dict.fromkeys(labels.tolist()):
        members = labels == label
        least = similarity[np.ix_(members, members)].min(axis=1)
        score = float(members.mean() * (1.0 - least.mean()))
        # The cluster of the lowest row comes first and wins a tie.
        if score > best + 1e-12:
            best, kept = score, members
    return kept


def _two_clusters(inner: Matrix, features: int) -> NDArray[np.int64]:
    """Labels of KMeans on points with these inner products; one label where they agree."""
    # A second's import, which users of other rules are spared.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    scale = float(inner.diagonal().max(initial=0.0))
    if len(inner) < 2 or scale == 0.0:
        return np.zeros(len(inner), dtype=np.int64)
    # Points of n coordinates with the same distances: KMeans depends on nothing else.
    values, vectors = np.linalg.eigh(inner / scale)
    points = vectors * np.sqrt(np.maximum(values, 0.0))
    # Its threads are none of ours, and how they share the sums changes the last bits.
    with warnings.catch_warnings(), threadpool_limits(1):
        # It warns where there are fewer different points than clusters: then one label comes back.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # KMeans takes its tolerance relative to the mean variance of a coordinate: there were `features` of them.
        means = KMeans(2, random_state=0, n_init=10, tol=1e-4 * len(inner) / max(features, 1)).fit(points)
    labels: NDArray[np.int64] = means.labels_.astype(np.int64)
    return labels
