"""Data sets, partitions, and the batches that models are given."""
