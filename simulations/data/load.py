"""Samples and labels: read once, decoded once, then shared between processes as memory maps."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simulations.config.catalog import DATA_DIR_VARIABLE, DATASETS, DatasetSpec
from simulations.data.decode import DataError as DataError
from simulations.data.decode import Split as Split
from simulations.data.decode import decode, owners_of

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped]

CACHE_LAYOUT = "2"  # part of every cache key: raise it when the decoded form changes
DIGITS_TEST_SHARE = 0.2


@lru_cache(maxsize=8)
def load_split(dataset: str, split: str, data_dir: str = "") -> Split:
    """Load the training or the test samples of a data set.

    Parameters
    ----------
    dataset : str
        A name of `simulations.config.catalog.DATASETS`.
    split : {"train", "test"}
        Which samples.
    data_dir : str
        A folder with ``<dataset>/train.parquet`` and ``<dataset>/test.parquet`` in the layout of the
        Hugging Face hub. Where samples have owners, ``train.parquet`` alone is enough: the last tenth of each
        owner's samples is then held out for testing. Empty: the environment variable ``FLWR_ROBUST_DATA``; if
        that is not set either, the hub. The digits of scikit-learn need neither.

    Raises
    ------
    DataError
        If the folder lacks the file, the file has another layout, or the hub cannot be reached.
    """
    spec = DATASETS[dataset]
    if not spec.hub_name:
        return _load_digits(split)
    folder = data_dir or os.environ.get(DATA_DIR_VARIABLE, "")
    if folder:
        return _load_parquet(spec, split, Path(folder).expanduser())
    return _load_hub(spec, split)


def _load_digits(split: str) -> Split:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # A split of its own seed: every run, whatever its seed, is tested on the same images.
    parts = train_test_split(images, labels, test_size=DIGITS_TEST_SHARE, stratify=labels, random_state=0)
    chosen, chosen_labels = (parts[0], parts[2]) if split == "train" else (parts[1], parts[3])
    return Split(chosen.reshape(-1, 1, 8, 8).astype(np.uint8), chosen_labels.astype(np.int64))


def _load_parquet(spec: DatasetSpec, split: str, folder: Path) -> Split:
    divided = bool(spec.held_out) and not (folder / spec.name / "test.parquet").is_file()
    path = folder / spec.name / f"{'train' if divided else split}.parquet"
    if not path.is_file():
        raise DataError(
            f"{path} does not exist: the data folder must hold {spec.name}/train.parquet and "
            f"{spec.name}/test.parquet with the columns {_listed(spec.columns)}; set data-dir or "
            f"{DATA_DIR_VARIABLE} to such a folder, or unset both to download {spec.hub_name}."
        )
    status = path.stat()
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"

    def read() -> Split:
        import datasets

        try:
            table = datasets.load_dataset("parquet", data_files={"train": str(path)}, split="train")
        except Exception as error:  # the reader raises whatever its layers below raise
            raise DataError(f"{path} cannot be read as parquet: {error}") from error
        return decode(_part(table, spec, split) if divided else table, spec, str(path))

    return _cached(f"{spec.name}-{split}", f"{key}|{divided}", read)


def _load_hub(spec: DatasetSpec, split: str) -> Split:
    import datasets

    divided = bool(spec.held_out)
    try:
        table = datasets.load_dataset(spec.hub_name, split="train" if divided else split)
    except Exception as error:  # network, hub and cache each raise their own kinds
        raise DataError(
            f"{spec.hub_name} could not be fetched from the Hugging Face hub ({error}): set data-dir or "
            f"{DATA_DIR_VARIABLE} to a folder that holds {spec.name}/{split}.parquet, or use "
            'dataset="digits", which needs no download.'
        ) from error

    def read() -> Split:
        return decode(_part(table, spec, split) if divided else table, spec, spec.hub_name)

    return _cached(f"{spec.name}-{split}", table._fingerprint, read)


def _part(table: datasets.Dataset, spec: DatasetSpec, split: str) -> datasets.Dataset:
    """Return the samples for training, or the last ones of each owner, which are held out for testing."""
    if spec.owner_column not in table.column_names:
        return table  # `decode` says what is missing
    owners = owners_of(table, spec)
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    trained = np.repeat(counts - np.floor(counts * spec.held_out).astype(int), counts)
    held_out = np.empty(len(owners), dtype=bool)
    held_out[order] = np.arange(len(owners)) - starts >= trained
    return table.select(np.flatnonzero(held_out if split == "test" else ~held_out))


def _listed(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return " and ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def cache_folder() -> Path:
    """Folder of decoded samples, below the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "flwr-robust"


def _cached(label: str, key: str, read: Any) -> Split:
    """Return the decoded split from disk, decoding it first if it is not there.

    Simulated nodes are processes of their own: without this, each would decode every sample.
    """
    digest = hashlib.sha256(f"{CACHE_LAYOUT}|{key}".encode()).hexdigest()[:16]
    stem = cache_folder() / f"{label}-{digest}"
    inputs, labels, owners = (stem.with_suffix(f".{part}.npy") for part in ("inputs", "labels", "owners"))
    # The labels are written last: where they are, the rest is too.
    if not (inputs.is_file() and labels.is_file()):
        split = read()
        cache_folder().mkdir(parents=True, exist_ok=True)
        if split.owners is not None:
            _write_whole(owners, split.owners)
        _write_whole(inputs, split.inputs)
        _write_whole(labels, split.labels)
    known = np.load(owners) if owners.is_file() else None
    return Split(np.load(inputs, mmap_mode="r"), np.load(labels), known)


def _write_whole(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array so that other processes see all of it or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
