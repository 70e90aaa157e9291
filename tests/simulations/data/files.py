"""Parquet files in the layout of the Hugging Face hub."""

import io

import numpy as np


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


def write_shakespeare(folder, split, rows):
    import datasets

    (folder / "shakespeare").mkdir(parents=True, exist_ok=True)
    speakers, texts, following = zip(*rows, strict=True)
    table = datasets.Dataset.from_dict({"character_id": speakers, "x": texts, "y": following})
    table.to_parquet(folder / "shakespeare" / f"{split}.parquet")
