"""Flower in and out: `.npy` bytes, layouts, replies, metrics."""
