"""Labels as the data set that flwr-datasets' partitioners ask for, read a column at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import datasets  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

# The columns: a row is a sample.
LABEL = "label"
INDEX = "index"

Indices = npt.NDArray[np.int64]


class LabelTable(datasets.Dataset):  # type: ignore[misc]
    """Rows of a label and the index of its sample.

    A column of `datasets.Dataset` is read row by row, two seconds for the labels of MNIST, and a Dirichlet
    partitioner reads them anew for every ten draws: minutes where alpha is small. A selection is named after
    a hash of its indices, taken one by one. Here a column is an array, and a selection is taken from arrays.
    """

    @classmethod
    def of(cls, labels: npt.NDArray[np.int64], indices: Indices) -> Self:
        """Return the rows of a label each and the sample's index each."""
        table: Self = cls.from_dict({LABEL: labels, INDEX: indices})
        return table

    def __getitem__(self, key: Any) -> Any:
        """Return a column as an array; rows as `datasets.Dataset` does."""
        return self.data.column(key).to_numpy() if isinstance(key, str) else super().__getitem__(key)

    def select(self, indices: Iterable[int], *_: Any, **__: Any) -> LabelTable:
        """Return some rows, in the order given."""
        chosen = np.fromiter(indices, np.int64)
        return LabelTable.of(self[LABEL][chosen], self[INDEX][chosen])
