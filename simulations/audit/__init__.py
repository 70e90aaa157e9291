"""Any Flower project under attack, unchanged: ``flwr-robust audit``."""
