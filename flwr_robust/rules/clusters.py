"""Clusters of rows, by scikit-learn, from (n, n) numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import Matrix

Labels = NDArray[np.int64]


def two_by_average_linkage(distances: Matrix) -> Labels:
    """Label the rows by two clusters of average linkage; one row is one cluster."""
    # A second's import, which users of other rules are spared.
    from sklearn.cluster import AgglomerativeClustering

    if len(distances) < 2:
        return np.zeros(len(distances), dtype=np.int64)
    labels: Labels = AgglomerativeClustering(2, metric="precomputed", linkage="average").fit_predict(distances)
    return labels


def by_density(distances: Matrix, radius: float, min_rows: int) -> Labels:
    """Label the rows by DBSCAN's clusters in the order of the rows; -1 for those in none."""
    from sklearn.cluster import DBSCAN

    # It takes no radius of zero; the least number above it reaches no further.
    reach = max(radius, np.finfo(np.float64).tiny)
    labels: Labels = DBSCAN(eps=reach, min_samples=min_rows, metric="precomputed").fit_predict(distances)
    return labels


def largest(labels: Labels) -> NDArray[np.bool_]:
    """Which rows are in the largest cluster: of equally large ones, in that of the lowest row; -1 is no cluster."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    first = next((label for label in labels if label >= 0 and sizes[label] == sizes.max()), None)
    members: NDArray[np.bool_] = np.zeros(len(labels), dtype=bool) if first is None else labels == first
    return members


def majority_by_single_linkage(distances: Matrix, least: int, slack: float) -> NDArray[np.bool_]:
    """Which rows are in the first cluster of at least `least` rows that links of growing length make.

    Rows that links no longer than that, and `slack`, join to it are members as well.
    """
    n = len(distances)
    cluster = np.arange(n)
    pairs = np.argwhere(np.triu(np.ones((n, n), dtype=bool), 1))
    lengths = distances[pairs[:, 0], pairs[:, 1]]
    reach = np.inf
    for pair in np.argsort(lengths, kind="stable"):
        if lengths[pair] > reach:
            break
        one, other = cluster[pairs[pair]]
        cluster[cluster == other] = one
        if reach == np.inf and np.bincount(cluster).max() >= least:
            reach = lengths[pair] + slack
    members: NDArray[np.bool_] = cluster == np.bincount(cluster).argmax()
    return members
