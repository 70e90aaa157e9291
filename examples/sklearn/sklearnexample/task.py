"""A logistic regression, handwritten digits, and its weights as arrays."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

CLASSES, FEATURES = 10, 64


def load_data(partition_id: int, num_partitions: int) -> list[NDArray]:
    """Return the training and the test data of one partition: X_train, X_test, y_train, y_test."""
    X, y = load_digits(return_X_y=True)
    part = slice(partition_id, None, num_partitions)
    return train_test_split(X[part] / 16, y[part], test_size=0.2, random_state=42)


def create_model(local_epochs: int = 1) -> LogisticRegression:
    """Return a model that goes on from the weights that it is given, all zero at first."""
    model = LogisticRegression(max_iter=local_epochs, warm_start=True)
    model.classes_ = np.arange(CLASSES)
    set_weights(model, [np.zeros((CLASSES, FEATURES)), np.zeros(CLASSES)])
    return model


def get_weights(model: LogisticRegression) -> list[NDArray]:
    """Return the model's weights."""
    return [model.coef_, model.intercept_]


def set_weights(model: LogisticRegression, weights: list[NDArray]) -> None:
    """Give the model other weights."""
    model.coef_, model.intercept_ = weights
