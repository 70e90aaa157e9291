"""Flower strategies: one for each rule, and pre-aggregations as wrappers."""
