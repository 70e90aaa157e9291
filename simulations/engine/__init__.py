"""Flower's simulation engine, which runs on Ray, in a process of its own."""
