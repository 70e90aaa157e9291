"""Replies for a strategy of another library: its arrays are rewritten, all else is what the nodes sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import WARNING
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log

from flwr_robust.messages.arrays import Apart, Layout, make_array
from flwr_robust.messages.replies import Inbox, attempt, kind_of, median_metrics, metadata_by_hand
from flwr_robust.strategies.guard import Hooked, own_method

Handed = tuple[ArrayRecord | None, MetricRecord | None, str | None]


def hand_on(strategy: Strategy, server_round: int, inbox: Inbox, models: Iterable[ArrayRecord], apart: Apart) -> Handed:
    """Let a strategy aggregate models in the place of those that nodes sent.

    Parameters
    ----------
    strategy : Strategy
        Any Flower strategy.
    server_round : int
        Number of the round.
    inbox : Inbox
        The usable replies.
    models : iterable of ArrayRecord
        One for each reply in order; of the first ones alone, behind Bucketing.
    apart : Apart
        What the strategy has no say in.

    Returns
    -------
    Its model, in the dtypes that were sent; its metrics; and why its round cannot count (or None).
    """
    messages = [reply.message for reply in inbox.accepted]
    contents = [message.content for message in messages]
    # Strategies want one name of the record from all nodes: the one that most have.
    key = Counter(next(iter(content.array_records)) for content in contents).most_common(1)[0][0]
    metrics = _alike(contents, _weight_key(strategy))
    name = type(strategy).__name__
    made = [
        with_content(reply.message, reply.node_id, _rewritten(reply.message.content, {key: model, metric_key: own}))
        for model, reply, (metric_key, own) in zip(models, inbox.accepted, metrics, strict=False)
    ]
    try:
        with _true_metrics(strategy, "train_metrics_aggr_fn", contents):
            arrays, found = own_method(strategy, "aggregate_train")(server_round, made)
        arrays = None if arrays is None else _as_sent(arrays, inbox.layout, apart)
    except Exception as error:
        # Too few replies for it, say: the nodes decide how many are usable.
        reason = f"{name} failed on usable replies: {type(error).__name__}: {str(error)[:200]}"
        log(WARNING, "%s", reason, exc_info=True)
        return None, None, reason
    if arrays is not None and not _is_finite(arrays, inbox.layout, apart):
        return None, found, f"{name} made NaN or infinity of usable replies"
    return arrays, found, None


def hand_on_evaluations(
    strategy: Strategy, server_round: int, admitted: Sequence[tuple[int, Message]]
) -> MetricRecord | None:
    """Let a strategy aggregate the usable replies to an evaluation; None where it fails on them."""
    contents = [message.content for _, message in admitted]
    metrics = _alike(contents, _weight_key(strategy))
    made = [
        with_content(message, node, _rewritten(message.content, {key: own}))
        for (node, message), (key, own) in zip(admitted, metrics, strict=True)
    ]
    try:
        with _true_metrics(strategy, "evaluate_metrics_aggr_fn", contents):
            return cast(MetricRecord | None, own_method(strategy, "aggregate_evaluate")(server_round, made))
    except Exception as error:
        name = type(strategy).__name__
        log(WARNING, "%s failed on usable replies: %r: the metrics are left out", name, error, exc_info=True)
        return None


def with_content(message: Message, node_id: int, content: RecordDict) -> Message:
    """Return a message like this one, from this node, with other content; the message is left alone."""
    metadata = message.metadata
    if not isinstance(getattr(metadata, "src_node_id", None), int):
        # A mock of a unit test: a real message needs real metadata.
        metadata = metadata_by_hand("train", source=node_id)
    return Message(metadata=metadata, content=content)  # type: ignore[call-overload,no-any-return]


def _weight_key(strategy: Strategy) -> str:
    return str(getattr(strategy, "weighted_by_key", "num-examples"))


def _rewritten(content: RecordDict, changed: Mapping[str, ArrayRecord | MetricRecord]) -> RecordDict:
    """Return content with other arrays and metrics."""
    kept = {name: record for name, record in content.config_records.items() if name not in changed}
    return RecordDict({**kept, **changed})


def _alike(contents: Sequence[RecordDict], weight: str) -> Iterator[tuple[str, MetricRecord]]:
    """Yield each node's metrics under the name and with the keys of most: strategies refuse what differs.

    What a node lacks is filled in by the median; all weigh alike.
    """
    only = [next(iter(c.metric_records.items())) if len(c.metric_records) == 1 else None for c in contents]
    names = Counter(found[0] for found in only if found is not None)
    name = names.most_common(1)[0][0] if names else "metrics"
    common = median_metrics(list(contents), weight)
    for found in only:
        own = MetricRecord() if found is None else found[1]
        values = {
            key: own[key] if key in own and kind_of(own[key]) == kind_of(value) else value
            for key, value in common.items()
        }
        yield name, MetricRecord({**values, weight: 1})


@contextmanager
def _true_metrics(strategy: Strategy, name: str, contents: list[RecordDict]) -> Iterator[None]:
    """Let a strategy's function of metrics see what the nodes sent: all metrics, and the true num-examples."""
    holder: Any = strategy
    while name not in vars(holder) and isinstance(getattr(holder, "strategy", None), Strategy):
        holder = holder.strategy
    function = vars(holder).get(name)
    if function is None:
        yield
        return

    def see(_: list[RecordDict], weight: str) -> MetricRecord:
        found = attempt(function, contents, weight)
        return median_metrics(contents, weight) if found is None else found

    setattr(holder, name, see)
    try:
        yield
    finally:
        setattr(holder, name, function)


def _as_sent(arrays: ArrayRecord, layout: Layout, apart: Apart) -> ArrayRecord:
    """Return a strategy's model in the dtypes that were sent, with what was aggregated apart.

    Averages turn counters into floats: nodes, which go on counting in integers, would then reply in another
    dtype than they were sent.
    """
    entries = {name: (dtype, shape) for name, dtype, shape in layout.entries}
    made: dict[str, Array] = {}
    for name, array in arrays.items():
        made[name] = array
        if name in apart.fixed or name in apart.patches:
            dtype, shape = entries[name]
            made[name] = make_array(apart.put(name, np.asarray(array.numpy(), dtype=dtype).ravel()), shape)
        elif name in entries and array.dtype != str(entries[name][0]):
            with np.errstate(over="ignore"):
                made[name] = Array(np.asarray(array.numpy()).astype(entries[name][0]))
    return ArrayRecord(made)


def _is_finite(arrays: ArrayRecord, layout: Layout, apart: Apart) -> bool:
    floats = [name for name, dtype, _ in layout.entries if dtype.kind == "f" and name in arrays]
    for name in floats:
        bad = ~np.isfinite(arrays[name].numpy().ravel())
        if name in apart.patches:
            bad[apart.patches[name][0]] = False
        if bad.any():
            return False
    return True


def require_inner(strategy: Any, misplaced: Sequence[str], owner: str) -> None:
    """Refuse what no rule can hand its output on to.

    Raises
    ------
    ValueError
        If it is no Flower strategy, or one of ours; or options of it were given to its owner.
    """
    if not isinstance(strategy, Strategy):
        raise ValueError(f"{owner} was given strategy = {strategy!r}; give a Flower strategy, such as FedAdam().")
    if isinstance(strategy, Hooked):
        raise ValueError(
            f"{owner} was given strategy = {type(strategy).__name__}(...), which has a rule of its own; give one of "
            "Flower's, or chain the rules."
        )
    if misplaced:
        raise ValueError(
            f"{owner} was given {', '.join(misplaced)} beside strategy = {type(strategy).__name__}(...), which chooses "
            "whom to ask and what becomes of metrics: give them to that one."
        )
