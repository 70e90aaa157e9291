"""``flwr-robust bench``: what aggregation costs, beside Flower's own strategies, ByzFL and the machine's limits."""
