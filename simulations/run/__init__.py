"""One run: the server's strategy, its evaluation and its results."""
