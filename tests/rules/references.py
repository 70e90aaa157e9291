"""Slow, obvious float64 versions of the rules, written from the papers' formulas."""

from __future__ import annotations

import numpy as np

TIE = 1e-13


def distances(X):
    X = np.asarray(X, dtype=np.float64)
    result = np.zeros((len(X), len(X)))
    for i in range(len(X)):
        for j in range(len(X)):
            result[i, j] = np.linalg.norm(X[i] - X[j])
    return result


def mean(X):
    return np.mean(np.asarray(X, dtype=np.float64), axis=0)


def median(X):
    return np.median(np.asarray(X, dtype=np.float64), axis=0)


def trimmed_mean(X, f):
    """NNM 8.1.1: sort each coordinate, drop f at either end, average the rest."""
    ordered = np.sort(np.asarray(X, dtype=np.float64), axis=0)
    return ordered[f : len(X) - f].mean(axis=0)


def lp_norm(v, p):
    largest = np.abs(v).max()
    return largest * np.linalg.norm(v / largest, ord=p) if largest else 0.0


def krum_scores(X, neighbors, p=2):
    """Sum of squared lp distances to the nearest other rows (NNM 8.1.2, MixTailor (3))."""
    X = np.asarray(X, dtype=np.float64)
    scores = []
    for i in range(len(X)):
        others = sorted(lp_norm(X[i] - X[j], p) ** 2 for j in range(len(X)) if j != i)
        scores.append(sum(others[:neighbors]))
    return np.array(scores)


def krum(X, f, p=2, num_neighbors=None):
    scores = krum_scores(X, len(X) - f - 1 if num_neighbors is None else num_neighbors, p)
    return np.asarray(X, dtype=np.float64)[np.flatnonzero(scores <= scores.min() * (1 + TIE))[0]]


def multi_krum(X, f, m=None, p=2, num_neighbors=None):
    m = len(X) - f if m is None else m
    scores = krum_scores(X, len(X) - f - 1 if num_neighbors is None else num_neighbors, p)
    last = np.sort(scores)[m - 1]
    below = [i for i in range(len(X)) if scores[i] < last * (1 - TIE)]
    tied = [i for i in range(len(X)) if abs(scores[i] - last) <= TIE * last]
    return np.asarray(X, dtype=np.float64)[(below + tied)[:m]].mean(axis=0)


def sum_of_distances(X, y, p=2):
    return sum(lp_norm(np.asarray(x, dtype=np.float64) - y, p) for x in X)


def certified_gap(X, y, p=2):
    """How far the sum of lp distances to y can be above the least, as a share of it; proven, however y was found.

    For any vectors u_i of dual norm at most one, ``sum ||z - x_i|| >= sum <u_i, y - x_i> + <sum u_i, z - y>``, and a z
    with no larger sum than y's is at most ``2 sum ||y - x_i|| / n`` away. Rows close to y share what makes the u_i
    add up to zero.
    """
    away = np.asarray(y, dtype=np.longdouble) - np.asarray(X, dtype=np.longdouble)
    largest = np.abs(away).max(axis=1)
    share = np.abs(away) / np.where(largest > 0, largest, 1)[:, None]
    norms = (share**p).sum(axis=1) ** (1 / p)
    pulls = np.sign(away) * (share / np.where(norms > 0, norms, 1)[:, None]) ** (p - 1)
    distances = norms * largest
    total, order, bounds = distances.sum(), np.argsort(distances), []
    for close in sorted({*range(min(len(X), 60)), *range(0, len(X), max(len(X) // 10, 1))}):
        near, far = order[:close], order[close:]
        sum_of_far = pulls[far].sum(axis=0)
        shared = -sum_of_far / max(close, (np.abs(sum_of_far) ** (p / (p - 1))).sum() ** ((p - 1) / p), 1e-300)
        left = sum_of_far + close * shared
        slack = (np.abs(left) ** (p / (p - 1))).sum() ** ((p - 1) / p) * 2 * total / len(X)
        bounds.append((pulls[far] * away[far]).sum() + (shared * away[near].sum(axis=0)).sum() - slack)
    return float((total - max(bounds)) / total) if total else 0.0


def nnm(X, f):
    """NNM Algorithm 2: the mean of the n - f nearest rows, the row itself first, ties to the lower index."""
    X, far = np.asarray(X, dtype=np.float64), distances(X)
    mixed = []
    for i in range(len(X)):
        others = [j for j in range(len(X)) if j != i]
        last = sorted(far[i, j] for j in others)[len(X) - f - 2] if len(X) - f > 1 else 0.0
        nearer = [j for j in others if far[i, j] < last * (1 - TIE)]
        tied = [j for j in others if abs(far[i, j] - last) <= last * TIE]
        mixed.append(X[sorted([i, *nearer, *tied][: len(X) - f])].mean(axis=0))
    return np.array(mixed)


def clip(X, threshold):
    """ARC 3: min(1, C / ||x||) x."""
    X = np.asarray(X, dtype=np.float64)
    norms = [np.linalg.norm(x) for x in X]
    return np.array([x * (threshold / norm) if norm > threshold else x for x, norm in zip(X, norms, strict=True)])


def arc(X, f):
    """ARC Algorithm 2: clip to the (k+1)-th largest norm, k = floor(2 f/n (n - f))."""
    n = len(X)
    norms = sorted((np.linalg.norm(np.asarray(x, dtype=np.float64)) for x in X), reverse=True)
    return clip(X, norms[(2 * f * (n - f)) // n])


def mean_around_median(X, keep):
    """NNM 15.1.3: per coordinate the `keep` values nearest to the median, the lower of equally near ones first."""
    X = np.asarray(X, dtype=np.float64)
    result = []
    for column in X.T:
        median = np.median(column)
        nearest = sorted(column, key=lambda value: (abs(value - median), value))
        result.append(np.mean(nearest[:keep]))
    return np.array(result)


def bulyan(X, f, selection="krum", p=2):
    """MixTailor 5: choose n - 2f rows, then the mean of n - 4f values around the median.

    They are chosen one by one; by Multi-Krum, as Flower does, all at once with n - f - 2 neighbours.
    """
    X = np.asarray(X, dtype=np.float64)
    left, chosen = list(range(len(X))), []
    if selection == "multi-krum":
        scores = krum_scores(X, max(1, len(X) - f - 2), p)
        chosen = np.argsort(scores, kind="stable")[: len(X) - 2 * f].tolist()
    while len(chosen) < len(X) - 2 * f:
        rows = X[left]
        if selection == "krum":
            scores = krum_scores(rows, max(1, len(left) - f - 1), p)
        else:
            centre = {"mean": mean, "median": median, "geometric-median": geometric_median}[selection](rows)
            scores = np.array([lp_norm(row - centre, p) for row in rows])
        first = np.flatnonzero(scores <= scores.min() * (1 + 1e-12))[0]
        chosen.append(left.pop(first))
    return mean_around_median(X[chosen], len(X) - 4 * f)


def geometric_median(X, steps=5000):
    """Weiszfeld's iteration, written plainly; a row that the others pull less than it holds is the median itself."""
    X = np.asarray(X, dtype=np.float64)
    for x in X:
        away = np.linalg.norm(X - x, axis=1)
        others = away > 1e-14 * np.linalg.norm(X, axis=1)
        if np.linalg.norm(((X[others] - x) / away[others, None]).sum(axis=0)) <= (~others).sum():
            return x
    # Seen from their midst: rows that nearly agree differ in few digits.
    start, y = np.median(X, axis=0), 0.0
    for _ in range(steps):
        away = np.linalg.norm(X - start - y, axis=1)
        new = ((X - start) / away[:, None]).sum(axis=0) / (1 / away).sum()
        if np.linalg.norm(new - y) <= 1e-13 * np.median(away):
            break
        y = new
    return start + y


def faba(X, f):
    """LPA (72): f times, drop the row farthest from the mean of those that remain, the last of equally far ones."""
    left = [np.asarray(x, dtype=np.float64) for x in X]
    for _ in range(f):
        centre = np.mean(left, axis=0)
        far = np.array([np.linalg.norm(x - centre) for x in left])
        left.pop(np.flatnonzero(far >= far.max() * (1 - TIE))[-1])
    return np.mean(left, axis=0)


def mda(X, f):
    """NNM 15.1.3: among all sets of n - f rows the first of least diameter."""
    from itertools import combinations

    X, far = np.asarray(X, dtype=np.float64), distances(X)
    sets = list(combinations(range(len(X)), len(X) - f))
    diameters = np.array([far[np.ix_(s, s)].max() for s in sets])
    return X[list(sets[np.flatnonzero(diameters <= diameters.min() * (1 + TIE))[0]])].mean(axis=0)


def centered_clipping(X, v, tau, iterations):
    """LPA (56) to (58)."""
    X = np.asarray(X, dtype=np.float64)
    for _ in range(iterations):
        far = [np.linalg.norm(x - v) for x in X]
        threshold = np.median(far) if tau is None else tau
        moves = [(x - v) * min(1.0, threshold / d) if d > 0 else x - v for x, d in zip(X, far, strict=True)]
        v = v + np.mean(moves, axis=0)
    return v


def dnc_scores(X):
    """LASA 5: squared projections of the centred rows on the top right singular vector."""
    centred = np.asarray(X, dtype=np.float64) - np.mean(np.asarray(X, dtype=np.float64), axis=0)
    top = np.linalg.svd(centred, full_matrices=False)[2][0]
    return (centred @ top) ** 2


def top_k(x, k):
    """LASA, Definition 1; of equal values the first stay."""
    order = sorted(range(len(x)), key=lambda j: (-abs(x[j]), j))
    kept = np.zeros(len(x))
    kept[order[:k]] = np.asarray(x, dtype=np.float64)[order[:k]]
    return kept


def purity(x):
    """LASA (1); 1/2 where nothing is left."""
    signs = np.sign(x)
    return 0.5 * (1 + signs.sum() / np.abs(signs).sum()) if np.abs(signs).sum() else 0.5


def mz_scores(values):
    """LASA (2), with the population standard deviation; 0 where all agree."""
    values = np.asarray(values, dtype=np.float64)
    deviation = values.std()
    if deviation <= 1e-12 * np.abs(values).max():
        return np.zeros(len(values))
    return (values - np.median(values)) / deviation


def lasa(X, sizes, sparsity, magnitude_radius, direction_radius):
    """LASA, Algorithm 1."""
    d = np.shape(X)[1]
    sparse = np.array([top_k(x, d - int(sparsity * d + 1e-9)) for x in X])
    result, start = [], 0
    for size in sizes:
        layer = sparse[:, start : start + size]
        magnitude = mz_scores([np.linalg.norm(x) for x in layer])
        direction = mz_scores([purity(x) for x in layer])
        passed = (np.abs(magnitude) <= magnitude_radius + 1e-9) & (np.abs(direction) <= direction_radius + 1e-9)
        result.append(layer[passed].mean(axis=0) if passed.any() else np.median(layer, axis=0))
        start += size
    return np.concatenate(result)


def sparsefed(rounds, k=0.5, max_norm=None, momentum=0.9):
    """LASA 2 and 5: clip, mean, momentum, error, top-k; the rest waits. What comes out of each round."""
    d = np.shape(rounds[0])[1]
    u, e, outputs = np.zeros(d), np.zeros(d), []
    for X in rounds:
        norms = np.linalg.norm(np.asarray(X, dtype=np.float64), axis=1)
        u = momentum * u + clip(X, np.median(norms) if max_norm is None else max_norm).mean(axis=0)
        e = e + u
        outputs.append(top_k(e, max(1, int(k * d + 1e-9))))
        e = e - outputs[-1]
    return outputs


def signguard(X, lower=0.1, upper=3.0, fraction=1.0, seed=1):
    """LASA 5: norm filter, MeanShift on the shares of signs in a window, clip to the median norm, mean."""
    from sklearn.cluster import MeanShift, estimate_bandwidth

    X = np.asarray(X, dtype=np.float64)
    width = int(np.ceil(fraction * X.shape[1]))
    start = np.random.Generator(np.random.PCG64(seed)).integers(X.shape[1] - width + 1)
    norms = np.linalg.norm(X, axis=1)
    median = np.median(norms)
    shares = np.stack([[np.mean(x > 0), np.mean(x == 0), np.mean(x < 0)] for x in X[:, start : start + width]])
    bandwidth = estimate_bandwidth(shares, quantile=max(0.5, 2 / len(X)), random_state=0)
    if bandwidth > 1e-12:
        labels = MeanShift(bandwidth=bandwidth).fit(shares).labels_
    else:
        labels = np.array([np.flatnonzero((shares == row).all(axis=1))[0] for row in shares])
    largest = max(np.unique(labels), key=lambda label: (np.sum(labels == label), -np.flatnonzero(labels == label)[0]))
    usual = (norms >= lower * median) & (norms <= upper * median)
    kept = usual & (labels == largest)
    kept = kept if kept.any() else usual
    return clip(X, median)[kept].mean(axis=0)


def lfighter(X, start, classes, features):
    """LPA 5.1 and the notes on its code, on the rows themselves."""
    from sklearn.cluster import KMeans

    X = np.asarray(X, dtype=np.float64)
    weight = X[:, start : start + classes * features].reshape(len(X), classes, features)
    change = np.linalg.norm(weight, axis=2).sum(axis=0)
    two = np.argsort(-change, kind="stable")[:2]
    points = weight[:, two].reshape(len(X), -1)
    labels = KMeans(2, random_state=0, n_init=10).fit(points).labels_
    scores = {}
    for label in dict.fromkeys(labels.tolist()):
        members = points[labels == label]
        norms = np.linalg.norm(members, axis=1)[:, None]
        unit = members / np.where(norms > 0, norms, 1.0)
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, 0.0)
        scores[label] = len(members) / len(X) * (1 - similarity.min(axis=1).mean())
    return X[labels == max(scores, key=scores.get)].mean(axis=0)


def dnc(X, f):
    """LASA 5, in one iteration over all columns: the mean without the f highest projections."""
    return np.asarray(X, dtype=np.float64)[np.argsort(dnc_scores(X), kind="stable")[: len(X) - f]].mean(axis=0)


def bucketing(X, size, seed):
    """NNM 10: means of buckets of a random permutation."""
    X, order = np.asarray(X, dtype=np.float64), np.random.default_rng(seed).permutation(len(X))
    return np.array([X[order[k : k + size]].mean(axis=0) for k in range(0, len(X), size)])
