"""All runs of an experiment, one session for the whole grid: ``flwr-robust sweep``."""
