"""From tables in the hub's layout to arrays: images, characters, labels; and what cannot be decoded."""

from dataclasses import replace

import numpy as np
import pytest

from simulations.config.catalog import DATASETS
from simulations.data.decode import CHARACTERS, OTHER
from simulations.data.load import DataError, load_split
from tests.simulations.data.files import encoded, write_mnist, write_shakespeare


def test_wrong_columns_are_named(fresh):
    write_mnist(fresh / "folder", column="picture")
    with pytest.raises(DataError, match=r"lacks the column\(s\) image: it has picture, label"):
        load_split("mnist", "train", str(fresh / "folder"))


def test_wrong_image_size_is_told(fresh):
    write_mnist(fresh / "folder", size=20)
    with pytest.raises(DataError, match=r"shape \(1, 20, 20\): mnist has \(1, 28, 28\)"):
        load_split("mnist", "train", str(fresh / "folder"))


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
