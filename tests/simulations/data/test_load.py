"""Loading: the embedded digits, parquet folders, the cache of decoded samples."""

import os

import numpy as np
import pytest

from simulations.config.catalog import DATA_DIR_VARIABLE, DATASETS
from simulations.data import load as data
from simulations.data.decode import CHARACTERS, OTHER
from simulations.data.load import DataError, load_split
from simulations.data.partitions import node_partitions
from tests.simulations.data.files import write_femnist, write_mnist

needs_data = pytest.mark.skipif(
    not os.environ.get(DATA_DIR_VARIABLE), reason=f"{DATA_DIR_VARIABLE} is not set to a folder of parquet files"
)


def test_digits_are_split_by_class_and_always_alike():
    train, test = load_split("digits", "train"), load_split("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.inputs.shape[1:] == DATASETS["digits"].shape
    shares = [np.bincount(part.labels) / len(part) for part in (train, test)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.005)
    load_split.cache_clear()
    np.testing.assert_array_equal(load_split("digits", "test").inputs, test.inputs)


def test_parquet_folder_is_read_from_the_argument_and_the_environment(fresh, monkeypatch):
    images, labels = write_mnist(fresh / "folder")
    loaded = load_split("mnist", "train", str(fresh / "folder"))
    np.testing.assert_array_equal(loaded.inputs[:, 0], images)
    np.testing.assert_array_equal(loaded.labels, labels)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(fresh / "folder"))
    np.testing.assert_array_equal(load_split("mnist", "train").labels, labels)


def test_images_are_decoded_once_and_again_after_a_change(fresh, monkeypatch):
    decoded = []
    decode = data.decode
    monkeypatch.setattr(data, "decode", lambda *given: decoded.append(1) or decode(*given))
    for count, expected in ((12, 1), (12, 1), (9, 2)):
        if count == 9 or not decoded:
            write_mnist(fresh / "folder", count=count)
        load_split.cache_clear()
        split = load_split("mnist", "train", str(fresh / "folder"))
        assert (len(split), len(decoded)) == (count, expected)
    assert isinstance(split.inputs, np.memmap)
    assert not list(data.cache_folder().glob("*.tmp"))


def test_an_interrupted_write_leaves_nothing(fresh, monkeypatch):
    data.cache_folder().mkdir(parents=True)

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        data._write_whole(data.cache_folder() / "x.npy", np.zeros(3))
    assert list(data.cache_folder().iterdir()) == []


def test_missing_file_is_named_with_the_layout(fresh):
    write_mnist(fresh / "folder", "train")
    with pytest.raises(DataError) as caught:
        load_split("mnist", "test", str(fresh / "folder"))
    for part in ("mnist/test.parquet does not exist", "'image' and 'label'", "data-dir", DATA_DIR_VARIABLE):
        assert part in str(caught.value)


def test_what_is_no_parquet_is_told(fresh):
    (fresh / "mnist").mkdir()
    (fresh / "mnist" / "train.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"train.parquet cannot be read as parquet"):
        load_split("mnist", "train", str(fresh))


def test_unreachable_hub_says_how_to_go_on(fresh, monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"ylecun/mnist could not be fetched.*no route.*dataset=\"digits\""):
        load_split("mnist", "train")


def test_the_last_tenth_of_each_writers_images_is_held_out(fresh):
    writers = {"f0002_11": 25, "f0000_14": 10, "f0001_41": 19}
    images, labels, owners = write_femnist(fresh, writers)
    train, test = (load_split("femnist", split, str(fresh)) for split in ("train", "test"))
    assert [np.bincount(part.owners).tolist() for part in (train, test)] == [[9, 18, 23], [1, 1, 2]]
    for number, writer in enumerate(sorted(writers)):
        own = np.flatnonzero(owners == writer)
        kept = len(own) - len(own) // 10
        for part, rows in ((train, own[:kept]), (test, own[kept:])):
            np.testing.assert_array_equal(part.inputs[part.owners == number][:, 0], images[rows])
            np.testing.assert_array_equal(part.labels[part.owners == number], labels[rows])


def test_writers_are_the_natural_partition(fresh, monkeypatch):
    write_femnist(fresh, {"a": 20, "b": 30, "c": 40})
    parts = node_partitions("femnist", str(fresh), "natural", 1.0, 3, 1)
    assert sorted(map(len, parts)) == [18, 27, 36]


def test_hubs_with_one_file_are_divided_too(fresh, monkeypatch):
    import datasets

    table = datasets.Dataset.from_dict(
        {"character_id": ["A"] * 10 + ["B"] * 5, "x": ["x" * 80] * 15, "y": list("0123456789") + ["?"] * 5}
    )
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or table)
    train, test = (load_split("shakespeare", split) for split in ("train", "test"))
    assert asked == [("flwrlabs/shakespeare", "train")] * 2
    assert (len(train), len(test)) == (14, 1)
    assert test.labels.tolist() == [CHARACTERS.index("9") + 1]


@needs_data
def test_real_shakespeare_has_its_speakers():
    train, test = load_split("shakespeare", "train"), load_split("shakespeare", "test")
    assert (len(train), len(test)) == (39_634, 9_435)
    assert train.owners.max() + 1 == 181
    assert OTHER not in train.inputs
    assert len(set(train.labels.tolist())) == 58


@needs_data
@pytest.mark.parametrize(("dataset", "sizes"), [("mnist", (60_000, 10_000)), ("cifar10", (50_000, 10_000))])
def test_real_data_have_their_sizes_and_statistics(dataset, sizes):
    spec = DATASETS[dataset]
    train, test = load_split(dataset, "train"), load_split(dataset, "test")
    assert (len(train), len(test)) == sizes
    assert train.inputs.shape[1:] == test.inputs.shape[1:] == spec.shape
    scaled = train.inputs[:10_000] / spec.scale
    np.testing.assert_allclose(scaled.mean(axis=(0, 2, 3)), spec.mean, atol=0.01)
    assert set(np.unique(train.labels)) == set(range(10))
