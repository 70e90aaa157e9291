"""Softmax regression on scikit-learn's handwritten digits, in NumPy."""

from functools import cache

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

PIXELS, CLASSES = 64, 10

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]


@cache
def load() -> tuple[Samples, Samples]:
    """Return training and test images with their labels."""
    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16.0).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(scaled, labels, test_size=0.2, random_state=1)
    return (train_x, train_y), (test_x, test_y)


def load_partition(partition: int, partitions: int) -> Samples:
    """Return one node's training samples. A project of yours reads the node's own data here."""
    (images, labels), _ = load()
    return images[partition::partitions], labels[partition::partitions]


def initial_model() -> ArrayRecord:
    """Return a model that knows nothing."""
    return to_arrays(np.zeros((PIXELS, CLASSES), np.float32), np.zeros(CLASSES, np.float32))


def to_arrays(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> ArrayRecord:
    """Pack a model for a message."""
    return ArrayRecord({"weight": Array(weight), "bias": Array(bias)})


def train(model: ArrayRecord, samples: Samples, steps: int, rate: float) -> ArrayRecord:
    """Take steps of gradient descent on the cross entropy."""
    images, labels = samples
    weight, bias = model["weight"].numpy(), model["bias"].numpy()
    for _ in range(steps):
        error = (_probabilities(images, weight, bias) - np.eye(CLASSES, dtype=np.float32)[labels]) / len(labels)
        weight, bias = weight - rate * images.T @ error, bias - rate * error.sum(axis=0)
    return to_arrays(weight, bias)


def accuracy(model: ArrayRecord, samples: Samples) -> float:
    """Return the share of samples whose class the model finds most probable."""
    images, labels = samples
    scores = _probabilities(images, model["weight"].numpy(), model["bias"].numpy())
    return float(np.mean(scores.argmax(axis=1) == labels))


def _probabilities(
    images: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    scores = images @ weight + bias
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)
