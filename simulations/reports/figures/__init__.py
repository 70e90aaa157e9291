"""Figures of a sweep: what they show (`series`), and how it is drawn."""
