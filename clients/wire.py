"""Flower records <-> update vectors: what a node changed, and replies that carry another update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict
from numpy.typing import NDArray

from flwr_robust.messages.arrays import read_header

Vector = NDArray[np.floating[Any]]
Arrays = dict[str, Array]


# PyTorch's names of batch normalisation's running statistics.
RUNNING_STATISTICS = ("running_mean", "running_var")


class UnusableReplyError(ValueError):
    """A reply's arrays do not fit the arrays that were sent."""


def is_running_statistic(key: str) -> bool:
    """Whether an array, by its name, holds running statistics of batch normalisation."""
    return key.rpartition(".")[2] in RUNNING_STATISTICS


def is_train(message: Message) -> bool:
    """Whether a message asks a node to train, by any action."""
    return str(message.metadata.message_type).split(".")[0] == MessageType.TRAIN


@dataclass(frozen=True)
class Slot:
    """The columns of the update vector that one float array fills."""

    record: int
    key: str
    shape: tuple[int, ...]
    columns: slice


class SentModel:
    """The arrays that a node was sent, as the point from which its update is measured.

    References to the arrays are taken at once, because an app may change the content in place afterwards.

    Parameters
    ----------
    content : RecordDict
        The content of a train message. Its float arrays, in the order of records and keys, make the
        update vector; integer arrays (counters such as ``num_batches_tracked``) are no part of it.
    statistics : bool
        Whether running statistics of batch normalisation are part of the update vector.

    Attributes
    ----------
    size : int
        Columns d of the update vector.
    """

    def __init__(self, content: RecordDict, statistics: bool = True) -> None:
        self._records: list[tuple[str, Arrays]] = [
            (name, dict(record.items())) for name, record in content.array_records.items()
        ]
        self._slots: list[Slot] = []
        self.size = 0
        pieces: list[Vector] = []
        for index, (_, arrays) in enumerate(self._records):
            for key, array in arrays.items():
                if _is_float(array) and (statistics or not is_running_statistic(key)):
                    values = array.numpy()
                    columns = slice(self.size, self.size + values.size)
                    self._slots.append(Slot(index, key, values.shape, columns))
                    pieces.append(values.reshape(-1))
                    self.size = columns.stop
        self._model = np.concatenate([np.empty(0, np.float32), *pieces])

    @property
    def model(self) -> Vector:
        """The (d,) sent values; not to be modified."""
        return self._model

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of updates: float32 or the widest among the sent float arrays."""
        return self._model.dtype

    @property
    def layers(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of each array in the update vector, in column order."""
        return [(slot.key, slot.shape) for slot in self._slots]

    def update_of(self, content: RecordDict) -> Vector:
        """Return what a reply changed: its float arrays minus the sent ones.

        Parameters
        ----------
        content : RecordDict
            The content of a reply.

        Returns
        -------
        (d,) array, float32 or the widest dtype among the sent float arrays.

        Raises
        ------
        UnusableReplyError
            If a sent float array is missing, has another shape or no float dtype, cannot be decoded, or
            holds NaN or infinity.
        """
        names = self._matching(content)
        update = np.empty_like(self._model)
        with np.errstate(over="ignore", invalid="ignore"):
            for slot in self._slots:
                update[slot.columns] = _decode(content.array_records[names[slot.record]], slot)
            update -= self._model
        if not np.isfinite(update).all():
            raise UnusableReplyError("the reply holds NaN or infinity")
        return update

    def rewrite(self, content: RecordDict, update: Vector) -> RecordDict:
        """Return the content with its float arrays replaced by the sent model plus `update`.

        Parameters
        ----------
        content : RecordDict
            A reply; only the layout of its float arrays matters.
        update : (d,) array
            The update that the reply is to carry.

        Returns
        -------
        RecordDict
            Same records, keys, shapes and dtypes. All that is no part of the update stays the same object.

        Raises
        ------
        UnusableReplyError
            If a sent float array is missing, or has another shape or no float dtype.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            values = self._model + update
        names = self._matching(content)
        arrays = {name: dict(content.array_records[name].items()) for name in names}
        for slot in self._slots:
            own = arrays[names[slot.record]].get(slot.key)
            if own is None or _layout(own)[0] != slot.shape or not _is_float(own):
                raise UnusableReplyError(f"the reply has no float array {slot.key!r} of shape {slot.shape}")
            arrays[names[slot.record]][slot.key] = _encode(values[slot.columns], own)
        records = {name: _record(of_name) for name, of_name in arrays.items()}
        return RecordDict({name: records.get(name, record) for name, record in content.items()})

    def invent(self, like: RecordDict, update: Vector) -> RecordDict:
        """Return a reply of the sent arrays plus `update`, with the metrics of another node's reply."""
        names = self._matching(like)
        sent = {name: _record(arrays) for name, (_, arrays) in zip(names, self._records, strict=True)}
        honest = RecordDict({name: sent.get(name, record) for name, record in like.items()})
        return self.rewrite(honest, update)

    def _matching(self, content: RecordDict) -> list[str]:
        """Name the reply's array records for the sent ones: the same names, or, failing that, positions."""
        found = content.array_records
        if all(name in found for name, _ in self._records):
            return [name for name, _ in self._records]
        if len(found) != len(self._records):
            raise UnusableReplyError(
                f"the reply holds {len(found)} array records, where {len(self._records)} were sent"
            )
        return list(found)


def replace_arrays(content: RecordDict, spoil: Callable[[NDArray[Any]], NDArray[Any] | bytes]) -> RecordDict:
    """Return the content with each array replaced by another, or by bytes that are none.

    Bytes keep the dtype and shape that the array declared; an array declares its own.
    """
    records = {}
    for name, record in content.array_records.items():
        records[name] = _record({key: _spoiled(array, spoil) for key, array in record.items()})
    return RecordDict({name: records.get(name, record) for name, record in content.items()})


def _spoiled(array: Array, spoil: Callable[[NDArray[Any]], NDArray[Any] | bytes]) -> Array:
    values = _values(array)
    if values is None:
        return array  # of no use as it is
    replacement = spoil(values)
    if isinstance(replacement, bytes):
        return Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=replacement)
    return Array(replacement)


def _values(array: Array) -> NDArray[Any] | None:
    """Return an array's values; None where its bytes cannot be decoded."""
    try:
        return array.numpy()
    except (TypeError, ValueError, EOFError, OSError):
        return None


def _layout(array: Array) -> tuple[tuple[int, ...], np.dtype[Any] | None]:
    """Return shape and dtype: as declared, or as found in the bytes of `NumPyClient` projects, which declare none."""
    if array.dtype == "":
        header = read_header(array.data)
        return (array.shape, None) if header is None else (header[0], header[2])
    try:
        return array.shape, np.dtype(array.dtype)
    except TypeError:
        # A type that NumPy does not know, such as bfloat16.
        return array.shape, None


def _is_float(array: Array) -> bool:
    """Whether the dtype is one of NumPy's real floating types."""
    _, dtype = _layout(array)
    return dtype is not None and np.issubdtype(dtype, np.floating)


def _decode(record: ArrayRecord, slot: Slot) -> Vector:
    """Return the reply's array for a slot as a flat vector."""
    if slot.key not in record:
        raise UnusableReplyError(f"the reply lacks the array {slot.key!r}")
    values = _values(record[slot.key])
    if values is None:
        raise UnusableReplyError(f"the array {slot.key!r} cannot be decoded")
    if values.shape != slot.shape or not np.issubdtype(values.dtype, np.floating):
        raise UnusableReplyError(
            f"the array {slot.key!r} has shape {values.shape} and dtype {values.dtype}, "
            f"and floats of shape {slot.shape} were sent"
        )
    return values.reshape(-1)


def _encode(values: Vector, like: Array) -> Array:
    """Return values as an array with another's shape and dtype, which declares them if that one does."""
    shape, dtype = _layout(like)
    with np.errstate(over="ignore"):
        made = Array(values.astype(dtype).reshape(shape))
    return made if like.dtype else Array(dtype="", shape=like.shape, stype=like.stype, data=made.data)


def _record(arrays: Arrays) -> ArrayRecord:
    """Return a record that holds these very arrays."""
    record = ArrayRecord()
    for key, array in arrays.items():
        record[key] = array
    return record
