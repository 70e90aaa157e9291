"""Strategies that select updates, clusters or rules, under the names of their rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from flwr_robust import rules
from flwr_robust.strategies.options import Options, flowers_order
from flwr_robust.strategies.robust import RobustStrategy


class Krum(RobustStrategy):
    """The update that its nearest neighbours are nearest to (see `flwr_robust.rules.Krum`).

    Takes the place of Flower's `Krum`, which sums over one neighbour less: give
    ``num_neighbors=n - f - 2`` for its very choice.

    Parameters
    ----------
    num_malicious_nodes : int or float
        Nodes that may lie: a number, or a fraction in [0, 0.5).
    p : float
        Order of the norm that distances are taken in.
    num_neighbors : int, optional
        Neighbours in a score; by default n - f - 1.
    **options
        See `RobustStrategy`.
    """

    @flowers_order("num_malicious_nodes")
    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        p: float = 2,
        num_neighbors: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.Krum(num_malicious_nodes, p=p, num_neighbors=num_neighbors), **options)


class MultiKrum(RobustStrategy):
    """Mean of the updates with the least Krum scores (see `flwr_robust.rules.MultiKrum`).

    Parameters
    ----------
    num_malicious_nodes : int or float
        Nodes that may lie: a number, or a fraction in [0, 0.5).
    num_nodes_to_select : int, optional
        Updates to average; by default n - f (Flower's default is 1).
    p : float
        Order of the norm that distances are taken in.
    num_neighbors : int, optional
        Neighbours in a score; by default n - f - 1.
    **options
        See `RobustStrategy`.
    """

    @flowers_order("num_malicious_nodes", "num_nodes_to_select")
    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        num_nodes_to_select: int | None = None,
        m: int | None = None,
        p: float = 2,
        num_neighbors: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        if None not in (m, num_nodes_to_select) and m != num_nodes_to_select:
            raise ValueError(
                f"MultiKrum was given m = {m} and num_nodes_to_select = {num_nodes_to_select}, which are "
                "two names of one number; give one of them."
            )
        select = num_nodes_to_select if m is None else m
        super().__init__(rules.MultiKrum(num_malicious_nodes, m=select, p=p, num_neighbors=num_neighbors), **options)
        self.num_nodes_to_select = select


class MDA(RobustStrategy):
    """Mean of the n - f updates that lie closest together (see `flwr_robust.rules.MDA`).

    Parameters
    ----------
    num_malicious_nodes : int or float
        Nodes that may lie: a number, or a fraction in [0, 0.5).
    **options
        See `RobustStrategy`.
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.MDA(num_malicious_nodes), **options)


class Bulyan(RobustStrategy):
    """Updates chosen one by one, averaged around the median (see `flwr_robust.rules.Bulyan`).

    Takes the place of Flower's `Bulyan`. Needs n >= 4 f + 3.

    Parameters
    ----------
    num_malicious_nodes : int or float
        Nodes that may lie: a number, or a fraction in [0, 0.5).
    selection : str
        ``"krum"``, ``"mean"``, ``"median"`` or ``"geometric-median"``.
    p : float
        Order of the norm of the distances.
    **options
        See `RobustStrategy`.
    """

    @flowers_order("num_malicious_nodes")
    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        selection: str = "krum",
        p: float = 2,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.Bulyan(num_malicious_nodes, selection=selection, p=p), **options)


class FABA(RobustStrategy):
    """Mean of what remains when the farthest updates are dropped (see `flwr_robust.rules.FABA`).

    Parameters
    ----------
    num_malicious_nodes : int or float
        Nodes that may lie: a number, or a fraction in [0, 0.5).
    **options
        See `RobustStrategy`.
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.FABA(num_malicious_nodes), **options)


class DnC(RobustStrategy):
    """Mean without the outliers of random columns (see `flwr_robust.rules.DnC`).

    Parameters
    ----------
    num_malicious_nodes : int or float
        Nodes that may lie: a number, or a fraction in [0, 0.5).
    iterations : int
        Samples of columns.
    subsample : int
        Columns in each.
    filter_fraction : float
        Updates to drop an iteration, in multiples of num_malicious_nodes.
    seed : int, optional
        Seed of the samples.
    **options
        See `RobustStrategy`.
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        iterations: int = 1,
        subsample: int = 10000,
        filter_fraction: float = 1.0,
        seed: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            rules.DnC(
                num_malicious_nodes,
                iterations=iterations,
                subsample=subsample,
                filter_fraction=filter_fraction,
                seed=seed,
            ),
            **options,
        )


class SignGuard(RobustStrategy):
    """Mean of updates whose norm and signs are like those of most (see `flwr_robust.rules.SignGuard`).

    Parameters
    ----------
    num_malicious_nodes : int or float
        Not used by the rule; wrappers around the strategy inherit it.
    lower : float
        Least norm that passes, in median norms.
    upper : float
        Largest norm that passes, in median norms.
    fraction : float
        Share of the columns whose signs are looked at.
    seed : int, optional
        Seed of the windows of columns.
    **options
        See `RobustStrategy`.
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        lower: float = 0.1,
        upper: float = 3.0,
        fraction: float = 0.1,
        seed: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.SignGuard(lower=lower, upper=upper, fraction=fraction, seed=seed)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class LFighter(RobustStrategy):
    """Mean of the larger, more consistent cluster of output layers (see `flwr_robust.rules.LFighter`).

    Parameters
    ----------
    num_malicious_nodes : int or float
        Not used by the rule; wrappers around the strategy inherit it.
    output_layer : str, optional
        Name of the output layer's weight in the ArrayRecord; by default the last 2-D array.
    **options
        See `RobustStrategy`.
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        output_layer: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.LFighter(output_layer=output_layer)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class LASA(RobustStrategy):
    """Sparsified updates, filtered and averaged layer by layer (see `flwr_robust.rules.LASA`).

    Parameters
    ----------
    num_malicious_nodes : int or float
        Not used by the rule; wrappers around the strategy inherit it.
    sparsity : float
        Share of each update that is set to zero.
    magnitude_radius : float
        Largest absolute MZ-score of a layer's norm.
    direction_radius : float
        Largest absolute MZ-score of a layer's purity of signs.
    **options
        See `RobustStrategy`.
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        sparsity: float = 0.3,
        magnitude_radius: float = 2.0,
        direction_radius: float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.LASA(sparsity=sparsity, magnitude_radius=magnitude_radius, direction_radius=direction_radius)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class MixTailor(RobustStrategy):
    """Another rule in each round (see `flwr_robust.rules.MixTailor`).

    Parameters
    ----------
    num_malicious_nodes : int or float
        Nodes that may lie: a number, or a fraction in [0, 0.5).
    pool : sequence of Rule, optional
        Rules or chains to draw from; by default the paper's 64.
    seed : int, optional
        Seed of the draws; by default from the operating system.
    **options
        See `RobustStrategy`.
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int | float = 0,
        pool: Sequence[rules.Rule] | None = None,
        seed: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.MixTailor(pool, seed, num_malicious_nodes), **options)
