"""From tables in the Hugging Face hub's layout to arrays: images, characters, labels, owners."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simulations.config.catalog import CHARACTERS, DatasetSpec

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped]

OTHER = len(CHARACTERS) + 1


class DataError(ValueError):
    """Data that cannot be read, and what to do about it."""


@dataclass(frozen=True)
class Split:
    """Samples and their labels."""

    inputs: npt.NDArray[np.uint8]
    """Images, (samples, channels, height, width), or texts as numbers of characters, (samples, length)."""
    labels: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64] | None = None
    """Who wrote or spoke each sample, numbered from 0 within the split; None where samples have no owners."""

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.labels)


def decode(table: datasets.Dataset, spec: DatasetSpec, origin: str) -> Split:
    """Read a table in the layout of `spec.hub_name`, which comes from `origin`.

    Raises
    ------
    DataError
        If it lacks a column or holds other samples.
    """
    missing = set(spec.columns) - set(table.column_names)
    if missing:
        raise DataError(
            f"{origin} lacks the column(s) {', '.join(sorted(missing))}: it has "
            f"{', '.join(table.column_names)}; give a file in the layout of {spec.hub_name}."
        )
    owners = owners_of(table, spec) if spec.owner_column else None
    if spec.is_text:
        labels = _characters(_column(table, spec.label_column), 1, spec, origin)[:, 0].astype(np.int64)
        return Split(_characters(_column(table, spec.input_column), spec.shape[0], spec, origin), labels, owners)
    labels = _column(table, spec.label_column).to_numpy().astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < spec.num_classes:
        raise DataError(
            f"{origin} holds labels from {labels.min()} to {labels.max()}: {spec.name} has 0 to "
            f"{spec.num_classes - 1}; give a file in the layout of {spec.hub_name}."
        )
    return Split(_images(table, spec, origin), labels, owners)


def owners_of(table: datasets.Dataset, spec: DatasetSpec) -> npt.NDArray[np.int64]:
    """Return who wrote or spoke each row, numbered in the order of their names."""
    names = _column(table, spec.owner_column).to_numpy()
    _, numbers = np.unique(names.astype(np.str_), return_inverse=True)
    return numbers.astype(np.int64)


def _column(table: datasets.Dataset, name: str) -> Any:
    """Return a column as Arrow's array: the table itself would make Python objects of it one by one."""
    return table.select_columns(name).with_format("arrow")[:][name]


def _images(table: datasets.Dataset, spec: DatasetSpec, origin: str) -> npt.NDArray[np.uint8]:
    import datasets
    from PIL import Image

    encoded = _column(table.cast_column(spec.input_column, datasets.Image(decode=False)), spec.input_column)
    grey = spec.shape[0] == 1
    mode = "L" if grey else "RGB"
    images = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert(mode)) for row in encoded.to_pylist()])
    images = images[:, None] if grey else images.transpose(0, 3, 1, 2)
    if images.shape[1:] != spec.shape:
        raise DataError(
            f"{origin} holds images of shape {images.shape[1:]}: {spec.name} has {spec.shape}; "
            f"give a file in the layout of {spec.hub_name}."
        )
    return np.ascontiguousarray(images)


def _characters(texts: Any, length: int, spec: DatasetSpec, origin: str) -> npt.NDArray[np.uint8]:
    """Return texts of one length as numbers, (texts, length)."""
    rows = texts.to_numpy().astype(np.str_)
    wrong = np.flatnonzero(np.char.str_len(rows) != length)
    if wrong.size:
        raise DataError(
            f"{origin} holds {str(rows[wrong[0]])!r} where {spec.name} has {length} character(s); "
            f"give a file in the layout of {spec.hub_name}."
        )
    points = np.ascontiguousarray(rows).view(np.uint32).reshape(len(rows), length)
    numbers = np.full(0x110000, OTHER, dtype=np.uint8)  # one for each code point that there is
    numbers[[ord(character) for character in CHARACTERS]] = np.arange(1, OTHER)
    return numbers[points]
