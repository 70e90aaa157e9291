"""Federated learning with scikit-learn and Flower."""
