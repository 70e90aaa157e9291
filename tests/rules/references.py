"""Slow, obvious float64 versions of the rules, written from the papers' formulas."""

from __future__ import annotations

from itertools import combinations, pairwise

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


# ---------------------------------------------------------------- the peers' rules


def wide(X):
    return np.asarray(X, dtype=np.float64)


def norms_of(X):
    return np.array([np.linalg.norm(x) for x in wide(X)])


def nearest_first(values, count):
    """The places of the `count` lowest values; of values that tie the lowest places."""
    last = np.sort(values)[count - 1]
    below = [i for i in range(len(values)) if values[i] < last - TIE * abs(last)]
    tied = [i for i in range(len(values)) if abs(values[i] - last) <= TIE * abs(last)]
    return (below + tied)[:count]


def cosine(a, b):
    """Normalised first; 0 where either is zero."""
    a, b = wide(a), wide(b)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    return float((a / lengths[0]) @ (b / lengths[1])) if min(lengths) > 0 else 0.0


def cosine_distance(a, b):
    """1 - cos; of narrow angles by the distance of the unit vectors, which rounding spoils less."""
    if not np.any(a) or not np.any(b):
        return 1.0
    a, b = wide(a) / np.linalg.norm(wide(a)), wide(b) / np.linalg.norm(wide(b))
    return float(np.square(a - b).sum() / 2)


def caf(X, f):
    """Algorithm 2: weights, covariance by its definition, the best mean on the way."""
    rows, n = wide(X), len(X)
    # Seen from their midst.
    X = rows - np.median(rows, axis=0)
    c, best, best_weights = np.ones(n), np.inf, np.full(n, 1 / n)
    while c.sum() > n - 2 * f + 1e-9:
        there = c > 0
        mu = c[there] @ X[there] / c[there].sum()
        centred = np.sqrt(c[there] / c[there].sum())[:, None] * (X[there] - mu)
        lam, v = np.linalg.svd(centred, full_matrices=False)[1:]
        lam, v = lam[0] ** 2, v[0]
        if lam <= 1e-13 * np.square(X[there]).sum(axis=1).max():
            lam = 0.0
        if lam < best:
            best, best_weights = lam, c / c.sum()
        if lam == 0.0:
            break
        t = np.zeros(n)
        t[there] = ((X[there] - mu) @ v) ** 2
        c = c * (1 - t / t[there].max())
        c[np.argmax(np.where(there, t, -1))] = 0.0
        c[c < 1e-12] = 0.0
    return best_weights @ rows


def smea(X, f):
    """Among all sets of n - f rows the first whose covariance has the least largest eigenvalue."""
    X = wide(X)
    best, chosen = np.inf, None
    for s in map(list, combinations(range(len(X)), len(X) - f)):
        centred = X[s] - X[s].mean(axis=0)
        top = np.linalg.svd(centred, compute_uv=False)[0] ** 2 if X.shape[1] else 0.0
        top = 0.0 if top <= 1e-13 * np.square(X[s]).sum(axis=1).max(initial=0.0) else top
        if top < best * (1 - TIE):
            best, chosen = top, s
    return X[chosen].mean(axis=0)


def monna(X, f, place):
    far = np.array([np.linalg.norm(x - wide(X)[place]) for x in wide(X)])
    far[place] = -1.0
    return wide(X)[nearest_first(far, len(X) - f)].mean(axis=0)


def nna(X, f, root):
    far = np.array([np.linalg.norm(x - wide(root)) for x in wide(X)])
    return wide(X)[nearest_first(far, len(X) - f)].mean(axis=0)


def cge(X, f):
    return wide(X)[nearest_first(norms_of(X), len(X) - f)].mean(axis=0)


def aksel(X, f, keep="half"):
    far = norms_of(wide(X) - median(X))
    return wide(X)[nearest_first(far, (len(X) + 1) // 2 if keep == "half" else len(X) - f)].mean(axis=0)


def medoid(X):
    X, far = wide(X), distances(X)
    # Beside the best one's: sums alone would not see what is small beside a row far away.
    best = far.sum(axis=1).argmin()
    sums = far + far[best]
    more = [
        sum(float((x - X[best]) @ (x + X[best] - 2 * y)) / total for y, total in zip(X, row, strict=True) if total)
        for x, row in zip(X, sums, strict=True)
    ]
    slack = TIE * len(X) * np.median(far[best])
    return X[np.flatnonzero(np.array(more) <= min(more) + slack)[0]]


def geometric_median_of_means(X, f, groups=None):
    k = min(groups or 2 * f + 1, len(X))
    sizes = [len(X) // k + (g < len(X) % k) for g in range(k)]
    ends = np.cumsum(sizes)
    return geometric_median(
        np.array([wide(X)[end - size : end].mean(axis=0) for end, size in zip(ends, sizes, strict=True)])
    )


def rfa(X, iterations=3, nu=1e-6):
    """Algorithm 2, from the mean, with a relative smoothing."""
    X = wide(X)
    start = np.median(X, axis=0)
    X, v, m = X - start, (X - start).mean(axis=0), None
    for _ in range(iterations):
        far = norms_of(X - v)
        far[far <= 1e-8 * (norms_of(X) + np.linalg.norm(v))] = 0.0
        m = np.median(far) if m is None else m
        if not far.any():
            break
        far = np.maximum(far, nu * m) if m > 0 else np.where(far > 0, far, 1e-6 * far[far > 0].min())
        b = far.min() / far
        v = b @ X / b.sum()
    return start + v


def weighted_geometric_median(X, masses, steps=3000):
    X, masses = wide(X)[masses > 0], masses[masses > 0] / masses.sum()
    for x in X:
        away = norms_of(X - x)
        others = away > 1e-14 * norms_of(X)
        pull = ((masses / np.where(others, away, 1.0))[others, None] * (X[others] - x)).sum(axis=0)
        if np.linalg.norm(pull) <= masses[~others].sum():
            return x
    start, y = np.median(X, axis=0), 0.0
    for _ in range(steps):
        away = norms_of(X - start - y)
        new = (masses / away) @ (X - start) / (masses / away).sum()
        if np.linalg.norm(new - y) <= 1e-13 * np.median(away):
            break
        y = new
    return start + y


def autogm(X, lam=None, tol=1e-6, max_iterations=100):
    """The two minimisations in turns; the water level by bisection."""
    X, a = wide(X), np.full(len(X), 1 / len(X))
    z = weighted_geometric_median(X, a)
    D = norms_of(X - z)
    D[1e-8 * (norms_of(X) + np.linalg.norm(z)) >= D] = 0.0
    lam = len(X) * np.median(D) if lam is None else lam
    objective = np.inf
    for _ in range(max_iterations if lam else 0):
        low, high = D.min(), D.min() + lam
        for _ in range(200):
            level = (low + high) / 2
            low, high = (level, high) if np.maximum(level - D, 0).sum() < lam else (low, level)
        a = np.maximum(high - D, 0) / lam
        a /= a.sum()
        z = weighted_geometric_median(X, a)
        D = norms_of(X - z)
        before, objective = objective, a @ D + lam / 2 * a @ a
        if abs(before - objective) <= tol * objective:
            break
    return z


def two_by_average_linkage(distances):
    """The members of two clusters; SciPy has its own order among ties, which zero rows make."""
    from scipy.cluster.hierarchy import cut_tree, linkage
    from scipy.spatial.distance import squareform

    if len(distances) < 2:
        return [[0]]
    labels = cut_tree(linkage(squareform(distances, checks=False), "average"), 2).ravel()
    return [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]


def clipped_clustering(rounds, max_norm=None):
    """Algorithm 1: what comes out of each round."""
    seen, outputs = [], []
    for X in rounds:
        seen += norms_of(X).tolist()
        tau = np.median(seen) if max_norm is None else min(np.median(seen), max_norm)
        clipped = clip(X, tau)
        far = np.array([[0.0 if a is b else cosine_distance(a, b) for b in clipped] for a in clipped])
        largest = max(two_by_average_linkage(far), key=lambda members: (len(members), -min(members)))
        outputs.append(clipped[largest].mean(axis=0))
    return outputs


def simple_clustering(X, radius=None, min_rows=3):
    """DBSCAN, written out."""
    far, n = distances(X), len(X)
    sizes = norms_of(X)
    far[far <= 1e-8 * np.maximum(sizes[:, None], sizes[None, :])] = 0.0
    if radius is None:
        radius = np.median([far[i, j] for i in range(n) for j in range(i)]) if n > 1 else 0.0
    near = far <= radius * (1 + 1e-12)
    core, label, count = near.sum(axis=1) >= min_rows, np.full(n, -1), 0
    for i in range(n):
        if core[i] and label[i] < 0:
            todo = [i]
            while todo:
                row = todo.pop()
                if label[row] >= 0:
                    continue
                label[row] = count
                if core[row]:
                    todo += [j for j in range(n) if near[row, j] and label[j] < 0]
            count += 1
    if not count:
        return median(X)
    sizes = [(label == k).sum() for k in range(count)]
    return wide(X)[label == int(np.argmax(sizes))].mean(axis=0)


def flame(X, model):
    """Algorithm 1 without noise: the component of the graph of the shortest links that holds a majority."""
    W, n = wide(X) + wide(model), len(X)
    far = np.array([[0.0 if i == j else cosine_distance(W[i], W[j]) for j in range(n)] for i in range(n)])

    def components(delta):
        left, found = set(range(n)), []
        while left:
            members, todo = set(), {min(left)}
            while todo:
                members |= todo
                todo = {j for i in todo for j in left - members if far[i, j] <= delta}
            found.append(sorted(members))
            left -= members
        return max(found, key=len)

    delta = min(d for d in np.unique(far) if len(components(d)) >= n // 2 + 1)
    return clip(X, np.median(norms_of(X)))[components(delta + 1e-12)].mean(axis=0)


def fltrust(X, root):
    """Equations (2) to (4)."""
    w = np.maximum([cosine(x, root) for x in X], 0.0)
    w[w < 1e-14] = 0.0
    if not w.any():
        return np.zeros(np.shape(X)[1])
    norms = norms_of(X)
    parts = [
        w_i * (np.linalg.norm(wide(root)) / norm) * x for w_i, norm, x in zip(w, norms, wide(X), strict=True) if w_i
    ]
    return np.sum(parts, axis=0) / w.sum()


def foolsgold_weights(H, confidence=1.0):
    """Algorithm 1, line by line."""
    n = len(H)
    s = np.array([[cosine(H[i], H[j]) if i != j else -np.inf for j in range(n)] for i in range(n)])
    v = np.maximum(s.max(axis=1), 0)
    pardoned = s.copy()
    for i in range(n):
        for j in range(n):
            if i != j and v[j] > v[i]:
                pardoned[i, j] = s[i, j] * v[i] / v[j]
    a = 1 - np.maximum(pardoned.max(axis=1), 0)
    a[a < 1e-12] = 0.0
    a = np.clip(a, 0, 1) / (a.max() or 1.0)
    return np.array(
        [0.0 if x == 0 else 1.0 if x == 1 else np.clip(confidence * (np.log(x / (1 - x)) + 0.5), 0, 1) for x in a]
    )


def foolsgold(rounds, confidence=1.0, normalise=True):
    """What comes out of each round: (ids, X)."""
    H, outputs = {}, []
    for ids, X in rounds:
        for who, x in zip(ids, wide(X), strict=True):
            H[who] = H.get(who, 0.0) + x
        a = foolsgold_weights([H[who] for who in ids], confidence)
        outputs.append(a @ wide(X) / ((a.sum() or 1.0) if normalise else 1.0))
    return outputs


def norm_clipping(X, max_norm=None):
    return clip(X, np.median(norms_of(X)) if max_norm is None else max_norm).mean(axis=0)


def crfl(rounds, max_norm=2.0, growth=0.1):
    """Algorithm 1 without noise; what comes out of each round: (X, model)."""
    outputs = []
    for t, (X, model) in enumerate(rounds, start=1):
        w = wide(model) + mean(X)
        outputs.append(clip([w], max_norm + growth * t)[0] - wide(model))
    return outputs


def rlr(X, f, threshold=None):
    signs = np.abs(np.sign(wide(X)).sum(axis=0))
    return np.where(signs < (f + 1 if threshold is None else threshold), -1.0, 1.0) * mean(X)


def three_sigma_outliers(X, first, sigmas=0.5):
    X, n = wide(X), len(X)
    a = 0.0
    if first:
        m = max(1, int(np.ceil(n / 2)) - 1)
        a = X[nearest_first(krum_scores(X, m), m)].mean(axis=0)
    s = norms_of(X - a)
    out = s > (s.mean() + sigmas * (s.std(ddof=1) if n > 1 else 0.0)) * (1 + 1e-12)
    out[nearest_first(s, 1)] = False
    return out


def three_sigma(rounds, sigmas=0.5):
    return [wide(X)[~three_sigma_outliers(X, k == 0, sigmas)].mean(axis=0) for k, X in enumerate(rounds)]


def cross_round(rounds, bound=0.5, sigmas=0.5):
    """What comes out of each round: (ids, X, model)."""
    last, outputs = {}, []
    for k, (ids, X, model) in enumerate(rounds):
        W = wide(X) + wide(model)
        suspicious = np.array(
            [
                k == 0 or min(cosine(w, last.get(who, model)), cosine(w, model)) < bound
                for who, w in zip(ids, W, strict=True)
            ]
        )
        dropped = suspicious & three_sigma_outliers(X, k == 0, sigmas) if suspicious.any() else suspicious
        outputs.append(wide(X)[~dropped].mean(axis=0))
        last |= {who: w for who, w, out in zip(ids, W, dropped, strict=True) if not out}
    return outputs


def residual_reweighting(X, lam=2.0, threshold=0.1):
    """Fu et al., 2019: the repeated median line of each column, residuals, weights, corrected values."""
    X = wide(X)
    n, d = X.shape
    rank = np.arange(n)
    scores, corrected = np.zeros(n), X.copy()
    for c in range(d):
        order = np.argsort(X[:, c], kind="stable")
        largest = np.abs(X[:, c]).max() or 1.0
        y = X[order, c] / largest
        slope = np.median([np.median([(y[i] - y[k]) / (i - k) for k in range(n) if k != i]) for i in range(n)])
        line = np.median(y) + slope * (rank - (n - 1) / 2)
        e = y - line
        h = np.sqrt(1 - 1 / n - (rank - rank.mean()) ** 2 / ((rank - rank.mean()) ** 2).sum())
        tau = 1.4826 * (1 + 5 / (n - 1)) * np.median(np.sort(np.abs(e))[1:])
        if tau <= 1e-13:
            w = np.where(np.abs(e) <= 1e-13, 1.0, 0.0)
        else:
            K = lam * np.sqrt(2 / n)
            w = np.array([1.0 if x == 0 else min(1.0, K * h_i * tau / abs(x)) for x, h_i in zip(e, h, strict=True)])
        scores[order] += w * w.std(ddof=1)
        corrected[order, c] = np.where(w < threshold, line, y) * largest
    if scores.max() <= 1e-12 * d:
        return corrected.mean(axis=0)
    shares = (scores / scores.max()) ** 2
    return shares @ corrected / shares.sum()


def two_means(values):
    """Exact 2-means of some numbers: which are in the lower cluster (None: all agree), how far apart centres are."""
    ordered = np.sort(values)
    cuts = [k for k in range(1, len(ordered)) if ordered[k] > ordered[k - 1]]
    if not cuts:
        return None, 0.0
    scale = np.abs(ordered).max()
    unit = ordered / scale
    costs = [unit[:k].var() * k + unit[k:].var() * (len(unit) - k) for k in cuts]
    best = next(k for k, cost in zip(cuts, costs, strict=True) if cost <= min(costs) + 1e-12 * unit.var() * len(unit))
    return values < ordered[best], (unit[best:].mean() - unit[:best].mean()) * scale


def auror(rounds, threshold=None, rounds_anew=10, share=0.5):
    """What comes out of each round."""
    outputs, indicative = [], None
    for call, X in enumerate(rounds):
        X = wide(X)
        found = [two_means(column) for column in X.T]
        if call < rounds_anew:
            apart = np.array([distance for _, distance in found])
            least = np.median(apart) if len(apart) else 0.0
            indicative = apart > threshold if threshold is not None else (apart >= least) & (apart > 0)
        votes = np.zeros(len(X))
        for k in np.flatnonzero(indicative):
            lower = found[k][0]
            if lower is not None and 2 * lower.sum() != len(X):
                votes += lower if 2 * lower.sum() < len(X) else ~lower
        outputs.append(X[votes <= share * indicative.sum()].mean(axis=0))
    return outputs


def slsgd(X, f, alpha=0.8):
    return alpha * trimmed_mean(X, f)


def inertia(values, k):
    """Of exact k-means of some numbers."""
    if k == 1:
        return values.var() * len(values)
    ordered = np.sort(values)
    return min(ordered[:c].var() * c + ordered[c:].var() * (len(ordered) - c) for c in range(1, len(ordered)))


def lbfgs_step(outputs):
    """H u of the latest output, by the compact formula on the vectors themselves."""
    S = np.array(outputs[:-1]).T
    Y = np.array(outputs[1:]).T - S
    v = outputs[-1]
    if not S[:, -1].any():
        return np.zeros(len(v))
    g = Y[:, -1] @ S[:, -1] / (S[:, -1] @ S[:, -1])
    A = S.T @ Y
    L = np.tril(A, -1)
    M = np.block([[g * S.T @ S, L], [L.T, -np.diag(np.diag(A))]])
    both = np.hstack([g * S, Y])
    return g * v - both @ np.linalg.pinv(M, rcond=1e-12) @ np.concatenate([g * S.T @ v, Y.T @ v])


def fldetector(rounds, window, references, seed):
    """KDD 2022; what comes out of each round: (ids, X)."""
    last, scores, outputs = {}, {}, []
    rng = np.random.Generator(np.random.PCG64(seed))
    for ids, X in rounds:
        X = wide(X)
        if len(outputs) > window:
            step = lbfgs_step(outputs[-window - 1 :])
            errors = {who: np.linalg.norm(last[who] + step - x) for who, x in zip(ids, X, strict=True) if who in last}
            total = sum(errors.values()) or 1.0
            for who, error in errors.items():
                scores.setdefault(who, []).append(error / total)
        judged = [i for i, who in enumerate(ids) if len(scores.get(who, [])) >= window]
        out = np.zeros(len(X), dtype=bool)
        if len(judged) >= 3:
            v = np.array([np.mean(scores[ids[i]][-window:]) for i in judged])
            drawn = rng.random((references, len(v)))
            if np.ptp(v) > 0:
                u = (v - v.min()) / np.ptp(v)
                gap = {}
                for k in (1, 2):
                    expected = np.array([inertia(row, k) for row in drawn])
                    gap[k] = np.log(expected.mean()) - np.log(inertia(u, k)) if inertia(u, k) > 1e-30 else np.inf
                if gap[1] < gap[2] - np.sqrt(1 + 1 / references) * np.log(expected).std():
                    out[[i for i, lower in zip(judged, two_means(u)[0], strict=True) if not lower]] = True
        outputs.append(X[~out].mean(axis=0))
        last |= dict(zip(ids, X, strict=True))
    return outputs


def flanders(rounds, f, columns, window=10, iterations=100, alpha=1.0, beta=1.0):
    """What comes out of each round: (ids, X, model)."""
    calls, outputs = [], []
    for ids, X, model in rounds:
        now = (wide(X) + wide(model))[:, columns]
        T = [
            np.array([dict(zip(who, rows, strict=True)).get(i, sent) for i in ids])
            for who, rows, sent in calls[-window:]
        ]
        kept = list(range(len(X)))
        if len(T) > 1:
            largest = max(np.abs(t).max() for t in T) or 1.0
            T, target = [t / largest for t in T], now / largest
            A, B = np.eye(len(X)), np.eye(len(columns))
            pairs = list(pairwise(T))
            for _ in range(iterations):
                A = sum(b @ B @ a.T for a, b in pairs) @ np.linalg.inv(
                    sum(a @ B.T @ B @ a.T for a, b in pairs) + alpha * np.eye(len(X))
                )
                B = sum(b.T @ A @ a for a, b in pairs) @ np.linalg.inv(
                    sum(a.T @ A.T @ A @ a for a, b in pairs) + beta * np.eye(len(columns))
                )
            kept = nearest_first(np.square(target - A @ T[-1] @ B.T).sum(axis=1), len(X) - f)
        outputs.append(wide(X)[kept].mean(axis=0))
        calls.append((ids, now, wide(model)[columns]))
    return outputs


def similarity_filter(X, cosine_bound=0.999, norm=0.01):
    X, norms = wide(X), norms_of(X)

    def alike(i, j):
        if not norms[i] and not norms[j]:
            return True
        close = abs(norms[i] - norms[j]) <= (norm + 1e-12) * max(norms[i], norms[j])
        return close and cosine(X[i], X[j]) >= cosine_bound - 1e-12

    kept = [i for i in range(len(X)) if not any(alike(i, j) for j in range(len(X)) if j != i)]
    return X[kept or list(range(len(X)))]
