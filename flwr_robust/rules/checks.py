"""Checks of what stages are constructed with: each error says what was given and what is allowed."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np


def check_f(f: int | float, owner: str) -> int | float:
    """Return f, as an int (a number of rows) or a float in [0, 0.5) (a fraction of them).

    Raises
    ------
    ValueError
        If f is neither.
    """
    if isinstance(f, int | np.integer) and not isinstance(f, bool) and f >= 0:
        return int(f)
    if isinstance(f, float | np.floating) and 0.0 <= f < 0.5:
        return float(f)
    raise ValueError(
        f"{owner} was given f = {f!r}; give a whole number of rows (0 or more) or a fraction of them in [0, 0.5)."
    )


def resolve_f(f: int | float, n: int) -> int:
    """Return f as a number of rows out of n."""
    # 0.29 * 100 is 28.999999999999996: a fraction that names a whole number of rows means it.
    return f if isinstance(f, int) else floor(f * n + 1e-9)


def check_positive(value: Any, name: str, owner: str, *, whole: bool = False) -> Any:
    """Return `value` if it is a positive finite number (a whole one if asked), else raise ValueError."""
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, kinds) and not isinstance(value, bool) and np.isfinite(value) and value > 0:
        return int(value) if whole else float(value)
    kind = "a whole number above 0" if whole else "a finite number above 0"
    raise ValueError(f"{owner} was given {name} = {value!r}; give {kind}.")


def check_norm_order(p: Any, owner: str) -> float:
    """Return p, the order of an lp norm, if it is a number from 1 to infinity; else raise ValueError."""
    if isinstance(p, int | float | np.integer | np.floating) and not isinstance(p, bool) and p >= 1:
        return float(p)
    raise ValueError(f"{owner} was given p = {p!r}; give the order of an lp norm: a number from 1 to infinity.")


def check_threads(threads: Any, owner: str) -> int | None:
    """Return a number of threads, or None for the default.

    Raises
    ------
    ValueError
        If it is no whole number of 1 or more.
    """
    whole = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
    if threads is not None and not (whole and threads >= 1):
        raise ValueError(f"{owner} was given threads = {threads!r}; give a whole number of 1 or more, or None.")
    return None if threads is None else int(threads)
