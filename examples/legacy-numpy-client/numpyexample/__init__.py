"""Federated learning with NumPy and Flower's older interface."""
