"""Reads the numbers: updates in blocks of columns, on a device, in as few passes as possible. Knows no rule."""
