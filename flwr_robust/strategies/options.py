"""The keyword arguments that every strategy here takes beside its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

from flwr.app import MetricRecord, RecordDict

from flwr_robust.engine.choose import device_for
from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.device import Device
from flwr_robust.messages.replies import MedianMetrics
from flwr_robust.record.report import OnReport
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
        File that gets one JSON line a round. That it can be written is made sure of before any node is asked; a disk
        that is full later costs a line and a WARNING.
    on_report : callable, optional
        ``(RoundReport) -> None``, called after each training round with its finished report: for a metrics server, an
        alarm, a database. What it raises is logged and ends nothing.
    suspicion : float, optional
        Keeps an exponentially weighted record of the quarantines and zero weights of each node, with this
        decay in (0, 1): see `flwr_robust.record.suspicion.Suspicion`. Off by default.
    exclude_after : float, optional
        In (0, 1]: nodes whose suspicion is above it are asked to train no more; at most num_malicious_nodes
        of the connected nodes, the most suspicious first, and never more than the rule can spare.
        They are still asked to evaluate. Off by default.
    forgive_after : int or None, default 20
        An excluded node is asked to train again after so many rounds, on trial: the next time that it is left out
        excludes it again. None excludes for good.
    keep_reports : int or None, default 100
        Reports in memory: those of the last rounds; None for all. The file has all.
    """

    report_path: str | Path | None
    on_report: OnReport | None
    suspicion: float | None
    exclude_after: float | None
    forgive_after: int | None
    keep_reports: int | None


class ReplyOptions(TypedDict, total=False):
    """Keyword arguments of our strategies and wrappers: what becomes of replies.

    Attributes
    ----------
    statistics : sequence of str, optional
        Patterns of names (`fnmatch`) of arrays that hold running statistics, beside those that PyTorch, Keras and flax
        call so. They are no updates: they are aggregated apart, each coordinate by its trimmed mean.
    max_reply_bytes : int, optional
        A larger reply is quarantined. By default four times what was sent, and at least 64 MB.
    metrics_of : {"selected", "accepted"}
        Whose metrics your functions get: with rules that leave nodes out, such as Krum, those of the others (the
        default); or those of all nodes whose replies could be used.
    """

    statistics: Sequence[str]
    max_reply_bytes: int | None
    metrics_of: str


class WrapperOptions(RecordOptions, ReplyOptions, total=False):
    """`RecordOptions` and `ReplyOptions`, and where passes over the replies run.

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


class ObserveOptions(TypedDict, total=False):
    """Keyword arguments of `Observe`, which says nothing of how the strategy itself reads, aggregates and reports.

    Attributes
    ----------
    report_path, on_report, keep_reports
        As in `RecordOptions`: reports with the candidates in them.
    statistics
        As in `ReplyOptions`: what no candidate sees.
    threads, device
        As in `WrapperOptions`: where candidates are computed.
    root_fn
        As in `OwnOptions`, for candidates that need one. It is called beside the strategy's own.
    """

    report_path: str | Path | None
    on_report: OnReport | None
    keep_reports: int | None
    statistics: Sequence[str]
    threads: int | None
    device: Any
    root_fn: Callable[[Any, int], Any] | None


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
    options: WrapperOptions | ObserveOptions, owner: str, threads: int | None = None, device: Device = CPU
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


@dataclass(frozen=True)
class Reading:
    """How replies are read; the attributes are those of `ReplyOptions`."""

    statistics: tuple[str, ...] = ()
    max_reply_bytes: int | None = None
    metrics_of: str = "selected"

    def changed_by(self, options: ReplyOptions, owner: str) -> Reading:
        """Return this one with the options that are given.

        Raises
        ------
        ValueError
            If an option has a value that makes no sense; the text names the owner.
        """
        given: dict[str, Any] = {key: value for key, value in options.items() if key in ReplyOptions.__annotations__}
        patterns = given.get("statistics", ())
        if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
            raise ValueError(
                f"{owner} was given statistics = {patterns!r}; give a list of patterns of names, such as ['*.ema']."
            )
        if "statistics" in given:
            given["statistics"] = tuple(patterns)
        if "max_reply_bytes" in given:
            given["max_reply_bytes"] = whole_number(given["max_reply_bytes"], "max_reply_bytes", owner, or_none=True)
        if given.get("metrics_of", "selected") not in ("selected", "accepted"):
            raise ValueError(f"{owner} was given metrics_of = {given['metrics_of']!r}; give 'selected' or 'accepted'.")
        return replace(self, **given)


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
    chosen["train_metrics_aggr_fn"] = chosen.get("train_metrics_aggr_fn") or MedianMetrics()
    chosen["evaluate_metrics_aggr_fn"] = chosen.get("evaluate_metrics_aggr_fn") or MedianMetrics()
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
