"""The parameters of a run: names, defaults, ranges, and what they stand for."""
