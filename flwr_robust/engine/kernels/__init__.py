"""Compiled loops over blocks of columns: numba compiles each once for float32 and float64, and keeps it on disk."""
