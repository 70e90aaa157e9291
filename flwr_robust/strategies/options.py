"""The keyword arguments that every strategy here takes beside its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

from flwr.app import MetricRecord, RecordDict

from flwr_robust.engine.choose import device_for
from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.device import Device
from flwr_robust.messages.replies import median_metrics
from flwr_robust.rules.checks import whole_number

Init = TypeVar("Init", bound=Callable[..., None])
MetricsFunction = Callable[[list[RecordDict], str], MetricRecord]


class FedAvgOptions(TypedDict, total=False):
    """Keyword arguments of Flower's `FedAvg`, with its defaults."""

    fraction_train: float
    fraction_evaluate: float
    min_train_nodes: int
    min_evaluate_nodes: int
    min_available_nodes: int
    weighted_by_key: str
    arrayrecord_key: str
    configrecord_key: str
    train_metrics_aggr_fn: MetricsFunction | None
    evaluate_metrics_aggr_fn: MetricsFunction | None


class RecordOptions(TypedDict, total=False):
    """Keyword arguments of our strategies and wrappers: what is kept of the nodes' fates.

    Attributes
    ----------
    report_path : str or Path, optional
        File that gets one JSON line a round.
    suspicion : float, optional
        Keeps an exponentially weighted record of the quarantines and zero weights of each node, with this
        decay in (0, 1): see `flwr_robust.record.suspicion.Suspicion`. Off by default.
    exclude_after : float, optional
        In (0, 1]: nodes whose suspicion is above it are asked to train no more; at most num_malicious_nodes
        of the connected nodes, the most suspicious first, and never more than the rule can spare.
        They are still asked to evaluate. Off by default.
    """

    report_path: str | Path | None
    suspicion: float | None
    exclude_after: float | None


class WrapperOptions(RecordOptions, total=False):
    """`RecordOptions`, and where passes over the replies run.

    Attributes
    ----------
    device : str or torch.device, optional
        ``"cuda"`` or ``"cuda:1"``: blocks stream to that GPU, a few at a time, and torch works on them there (for
        which torch has to be installed); ``"cpu"``: the same on the CPU. By default compiled loops on the CPU, where
        in any case stay what needs parts of the columns alone (DnC, LFighter, SignGuard's signs), LASA's own passes,
        and the steps of GeometricMedian and of Bulyan's selections in other lp norms.
    threads : int, optional
        Threads that aggregate. By default ``FLWR_ROBUST_THREADS`` from the environment, else the cores that the
        process may run on. The aggregate is the same up to rounding.
    """

    threads: int | None
    device: Any


class OwnOptions(WrapperOptions, total=False):
    """`WrapperOptions`, and what else our strategies add to Flower's.

    Attributes
    ----------
    server_learning_rate : float, default 1.0
        The new model is ``global + server_learning_rate * aggregate``.
    server_momentum : float, default 0.0
        In [0, 1). The aggregate's place is taken by ``m <- server_momentum * m + aggregate``, as in Flower's
        `FedAvgM`.
    root_fn : callable, optional
        ``(arrays, server_round) -> arrays``, for rules that compare the nodes with the server (FLTrust, NNA): it trains
        the model that was sent, an ArrayRecord (a list of NumPy arrays on Flower's older interface), on data of the
        server's own, and returns it as an ArrayRecord, a dictionary or a list of arrays. It is called once a round;
        where it fails, or returns NaN or infinity, the round is skipped.
    """

    server_learning_rate: float
    server_momentum: float
    root_fn: Callable[[Any, int], Any] | None


class Options(FedAvgOptions, OwnOptions, total=False):
    """Keyword arguments of our strategies: Flower's `FedAvgOptions` and our `OwnOptions`."""


def own_options(options: Mapping[str, Any]) -> OwnOptions:
    """Return the options that are ours."""
    return cast(OwnOptions, {key: value for key, value in options.items() if key in OwnOptions.__annotations__})


def threads_and_device(
    options: WrapperOptions, owner: str, threads: int | None = None, device: Device = CPU
) -> tuple[int | None, Device]:
    """Return where passes run: as the options say, else as is given here.

    Raises
    ------
    ValueError
        If an option has a value that makes no sense; the text names the owner.
    """
    if "threads" in options:
        threads = whole_number(options["threads"], "threads", owner, or_none=True)
    if "device" in options:
        device = device_for(options["device"], owner)
    return threads, device


def refuse_unknown(options: WrapperOptions, owner: str) -> None:
    """Refuse what is no option of wrappers, as Python does for named parameters.

    Raises
    ------
    TypeError
        If there is such an option.
    """
    unknown = [name for name in options if name not in WrapperOptions.__annotations__]
    if unknown:
        allowed = ", ".join(WrapperOptions.__annotations__)
        raise TypeError(f"{owner} was given {unknown[0]!r}, which wrappers do not take; beside their own: {allowed}.")


def fedavg_options(options: Options) -> FedAvgOptions:
    """Return what `FedAvg` takes of the options, with medians as the default for metrics."""
    ours = own_options(options)
    chosen = cast(FedAvgOptions, {key: value for key, value in options.items() if key not in ours})
    chosen["train_metrics_aggr_fn"] = chosen.get("train_metrics_aggr_fn") or median_metrics
    chosen["evaluate_metrics_aggr_fn"] = chosen.get("evaluate_metrics_aggr_fn") or median_metrics
    return chosen


def positional_as_in_flower(*own: str, last: Sequence[str] = ()) -> Callable[[Init], Init]:
    """Let a constructor that takes keywords alone be called by position too, as Flower's class of that name.

    Parameters
    ----------
    *own : str
        That class's own parameters, which stand behind FedAvg's numbers of nodes in its signature.
    last : sequence of str
        Those that stand behind all of FedAvg's.
    """
    names = [*FedAvgOptions.__annotations__, *last]
    names[5:5] = own

    def decorate(init: Init) -> Init:
        @wraps(init)
        def by_position(self: Any, *positional: Any, **keywords: Any) -> None:
            if len(positional) > len(names):
                raise TypeError(f"{type(self).__name__} takes at most {len(names)} positional arguments.")
            given = dict(zip(names, positional, strict=False))
            twice = sorted(given.keys() & keywords.keys())
            if twice:
                raise TypeError(f"{type(self).__name__} was given {', '.join(twice)} by position and by name.")
            init(self, **given, **keywords)

        return cast(Init, by_position)

    return decorate
