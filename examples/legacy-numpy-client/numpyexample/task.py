"""Softmax regression on handwritten digits."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

CLASSES, FEATURES = 10, 64


def load_data(partition_id: int, num_partitions: int) -> list[NDArray]:
    """Return the training and the test data of one partition: X_train, X_test, y_train, y_test."""
    X, y = load_digits(return_X_y=True)
    part = slice(partition_id, None, num_partitions)
    return train_test_split(X[part] / 16, y[part], test_size=0.2, random_state=42)


def initial_weights() -> list[NDArray]:
    """Return a model that knows nothing."""
    return [np.zeros((FEATURES, CLASSES)), np.zeros(CLASSES)]


def train(weights: list[NDArray], X: NDArray, y: NDArray, epochs: int, learning_rate: float = 0.5) -> list[NDArray]:
    """Return the weights after some steps of gradient descent."""
    matrix, bias = weights
    for _ in range(epochs):
        errors = (_probabilities(matrix, bias, X) - np.eye(CLASSES)[y]) / len(y)
        matrix = matrix - learning_rate * X.T @ errors
        bias = bias - learning_rate * errors.sum(axis=0)
    return [matrix, bias]


def test(weights: list[NDArray], X: NDArray, y: NDArray) -> tuple[float, float]:
    """Return loss and accuracy."""
    probabilities = _probabilities(*weights, X)
    loss = -np.log(probabilities[np.arange(len(y)), y] + 1e-12).mean()
    return float(loss), float((probabilities.argmax(axis=1) == y).mean())


def _probabilities(matrix: NDArray, bias: NDArray, X: NDArray) -> NDArray:
    scores = X @ matrix + bias
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
