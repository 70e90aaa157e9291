"""What a sweep writes into its folder, and a report reads there."""

# A line for each finished cell; lines that no longer fit the experiment; a copy of the experiment's file.
CELLS, SUPERSEDED, EXPERIMENT = "cells.jsonl", "superseded.jsonl", "experiment.toml"
