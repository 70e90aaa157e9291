"""Loading: the embedded digits, parquet folders, the cache of decoded samples."""

import io
import os
from dataclasses import replace

import numpy as np
import pytest

from simulations.config.catalog import DATA_DIR_VARIABLE, DATASETS
from simulations.data import load as data
from simulations.data.decode import CHARACTERS, OTHER
from simulations.data.load import DataError, load_split
from simulations.data.partitions import node_partitions

needs_data = pytest.mark.skipif(
    not os.environ.get(DATA_DIR_VARIABLE), reason=f"{DATA_DIR_VARIABLE} is not set to a folder of parquet files"
)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Give the test a cache folder of its own and no data folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    load_split.cache_clear()
    yield tmp_path
    load_split.cache_clear()


def encoded(images):
    """Return images as the hub stores them."""
    from PIL import Image

    rows = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    return rows


def write_mnist(folder, split="train", count=12, column="image", size=28):
    """Write a small parquet file in the hub's layout and return its images and labels."""
    import datasets

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, size, size), dtype=np.uint8)
    labels = random.integers(0, 10, count)
    table = datasets.Dataset.from_dict({column: encoded(images), "label": labels})
    if column == "image":
        table = table.cast_column(column, datasets.Image())
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "mnist" / f"{split}.parquet")
    return images, labels


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


def test_wrong_columns_are_named(fresh):
    write_mnist(fresh / "folder", column="picture")
    with pytest.raises(DataError, match=r"lacks the column\(s\) image: it has picture, label"):
        load_split("mnist", "train", str(fresh / "folder"))


def test_wrong_image_size_is_told(fresh):
    write_mnist(fresh / "folder", size=20)
    with pytest.raises(DataError, match=r"shape \(1, 20, 20\): mnist has \(1, 28, 28\)"):
        load_split("mnist", "train", str(fresh / "folder"))


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


# ---------------------------------------------------------------- samples that belong to somebody


def write_femnist(folder, writers):
    """Write the hub's one file, with so many images of each writer, and return its images and labels."""
    import datasets

    random = np.random.default_rng(0)
    owners = random.permutation(np.repeat(list(writers), list(writers.values())))
    images = random.integers(0, 256, (len(owners), 28, 28), dtype=np.uint8)
    labels = random.integers(0, 62, len(owners))
    columns = {"image": encoded(images), "writer_id": owners, "hsf_id": [0] * len(owners), "character": labels}
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    (folder / "femnist").mkdir(parents=True)
    table.to_parquet(folder / "femnist" / "train.parquet")
    return images, labels, owners


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


def write_shakespeare(folder, split, rows):
    import datasets

    (folder / "shakespeare").mkdir(parents=True, exist_ok=True)
    speakers, texts, following = zip(*rows, strict=True)
    table = datasets.Dataset.from_dict({"character_id": speakers, "x": texts, "y": following})
    table.to_parquet(folder / "shakespeare" / f"{split}.parquet")


def test_texts_become_numbers_of_characters(fresh):
    said = ("To be, or not to be: that is the question.\n" * 2)[:80]
    write_shakespeare(fresh, "train", [("HAMLET", said, " "), ("GHOST", "a" * 79 + "é", "\n")])
    write_shakespeare(fresh, "test", [("HAMLET", "z" * 80, "]")])
    train, test = (load_split("shakespeare", split, str(fresh)) for split in ("train", "test"))
    assert train.inputs.shape == (2, 80)
    assert train.inputs.dtype == np.uint8
    decoded = "".join(CHARACTERS[number - 1] for number in train.inputs[0])
    assert decoded == said
    assert train.inputs[1].tolist() == [CHARACTERS.index("a") + 1] * 79 + [OTHER]
    assert train.labels.tolist() == [CHARACTERS.index(" ") + 1, CHARACTERS.index("\n") + 1]
    assert train.labels.dtype == np.int64
    assert train.owners.tolist() == [1, 0]
    assert test.labels.tolist() == [CHARACTERS.index("]") + 1]


def test_every_character_has_a_number_of_its_own_below_the_classes():
    assert len(set(CHARACTERS)) == len(CHARACTERS) == 86
    assert OTHER < DATASETS["shakespeare"].num_classes == 90


def test_texts_of_another_length_are_told(fresh):
    write_shakespeare(fresh, "train", [("HAMLET", "To be", " ")])
    with pytest.raises(DataError, match=r"holds 'To be' where shakespeare has 80 character\(s\)"):
        load_split("shakespeare", "train", str(fresh))


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


@pytest.mark.parametrize(
    ("dataset", "column", "label", "size", "mode"),
    [("fashion-mnist", "image", "label", 28, "L"), ("cifar100", "img", "fine_label", 32, "RGB")],
)
def test_images_are_read_from_the_columns_of_the_hub(fresh, dataset, column, label, size, mode):
    import datasets

    random, spec = np.random.default_rng(0), DATASETS[dataset]
    shape = (6, size, size) if mode == "L" else (6, size, size, 3)
    images, labels = random.integers(0, 256, shape, dtype=np.uint8), random.integers(0, spec.num_classes, 6)
    columns = {column: encoded(images), label: labels, "coarse_label": [0] * 6}
    table = datasets.Dataset.from_dict(columns).cast_column(column, datasets.Image())
    (fresh / dataset).mkdir()
    table.to_parquet(fresh / dataset / "train.parquet")
    data = load_split(dataset, "train", str(fresh))
    expected = images[:, None] if mode == "L" else images.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(data.inputs, expected)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.owners is None


def test_labels_out_of_range_are_told(fresh, monkeypatch):
    write_mnist(fresh)
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], num_classes=3))
    with pytest.raises(DataError, match=r"holds labels from 0 to 9: mnist has 0 to 2"):
        load_split("mnist", "train", str(fresh))


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
