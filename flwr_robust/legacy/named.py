"""`RobustFedAvg` under the names, and with the arguments, of Flower's older robust strategies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from flwr_robust import rules
from flwr_robust.legacy.strategy import LegacyOptions, RobustFedAvg
from flwr_robust.rules.checks import number


class FedMedian(RobustFedAvg):
    """`RobustFedAvg` with `flwr_robust.rules.Median`."""

    def __init__(self, **options: Unpack[LegacyOptions]) -> None:
        super().__init__(rules.Median(), **options)


class FedTrimmedAvg(RobustFedAvg):
    """`RobustFedAvg` with `flwr_robust.rules.TrimmedMean`, which drops the fraction ``beta`` at either end."""

    def __init__(self, *, beta: float = 0.2, **options: Unpack[LegacyOptions]) -> None:
        fraction = number(beta, "beta", "FedTrimmedAvg", at_least=0, below=0.5)
        super().__init__(rules.TrimmedMean(fraction), **options)


class Krum(RobustFedAvg):
    """`RobustFedAvg` with `flwr_robust.rules.Krum`, or MultiKrum where ``num_clients_to_keep`` is not 0.

    Flower's sums over one neighbour less: with ``num_neighbors=n - f - 2`` the two choose alike.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int | float = 0,
        num_clients_to_keep: int = 0,
        num_neighbors: int | None = None,
        **options: Unpack[LegacyOptions],
    ) -> None:
        m = num_clients_to_keep or 1
        rule = rules.MultiKrum if m > 1 else rules.Krum
        arguments = {"m": m} if m > 1 else {}
        super().__init__(rule(num_malicious_clients, num_neighbors=num_neighbors, **arguments), **options)


class Bulyan(RobustFedAvg):
    """`RobustFedAvg` with `flwr_robust.rules.Bulyan`.

    ``first_aggregation_rule`` names a selection of the rule's, ``"krum"`` by default. Flower's own functions of that
    name return an aggregate instead of a choice; ``aggregate_krum`` stands for ``"krum"``, and ``to_keep``, which it
    cannot do without there, changes nothing.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int | float = 0,
        first_aggregation_rule: str | Callable[..., Any] = "krum",
        to_keep: int = 0,
        **options: Unpack[LegacyOptions],
    ) -> None:
        if to_keep:
            raise ValueError(f"Bulyan was given to_keep = {to_keep!r}, but it chooses nodes one by one; leave it out.")
        krum = getattr(first_aggregation_rule, "__name__", None) == "aggregate_krum"
        selection: Any = "krum" if krum else first_aggregation_rule
        super().__init__(rules.Bulyan(num_malicious_clients, selection=selection), **options)
