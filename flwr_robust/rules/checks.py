"""Checks of what stages and strategies are constructed with: an error says what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_f(f: int | float, owner: str) -> int | float:
    """Return f, as an int (a number of rows) or a float in [0, 0.5) (a fraction of them).

    Raises
    ------
    ValueError
        If f is neither.
    """
    if is_whole(f) and f >= 0:
        return int(f)
    if isinstance(f, float | np.floating) and 0.0 <= f < 0.5:
        return float(f)
    raise ValueError(
        f"{owner} was given f = {f!r}; give a whole number of rows (0 or more) or a fraction of them in [0, 0.5)."
    )


def number(
    value: Any,
    name: str,
    owner: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return a finite number within bounds, as a float.

    Raises
    ------
    ValueError
        If it is none; the text names the owner, the name and what is allowed.
    """
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)
    if (
        real
        and np.isfinite(value)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    ):
        return float(value)
    raise ValueError(f"{owner} was given {name} = {value!r}; give {_interval(above, at_least, below, at_most)}.")


def whole_number(value: Any, name: str, owner: str, *, at_least: int = 1, or_none: bool = False) -> Any:
    """Return a whole number of at least this much as an int, or None where that is allowed.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if value is None and or_none:
        return None
    if is_whole(value) and value >= at_least:
        return int(value)
    least = "above 0" if at_least == 1 else f"of {at_least} or more"
    allowed = f"{'None or ' if or_none else ''}a whole number {least}"
    raise ValueError(f"{owner} was given {name} = {value!r}; give {allowed}.")


def name_of_layer(value: Any, name: str, owner: str) -> str | None:
    """Return the name of a layer, or None; raise ValueError where it is neither."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{owner} was given {name} = {value!r}; give the name of a layer, or None.")
    return value


def refuse_non_finite(state: Mapping[str, NDArray[Any]], owner: str) -> None:
    """Raise ValueError, which names the owner, where a saved state holds NaN or infinity."""
    wrong = [name for name, value in state.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
    if wrong:
        raise ValueError(
            f"{owner} was given a state with NaN or infinity in {', '.join(sorted(wrong))}; load one that "
            "state() returned while all was finite."
        )


def norm_order(p: Any, owner: str) -> float:
    """Return p, the order of an lp norm, if it is a number from 1 to infinity; else raise ValueError."""
    if isinstance(p, int | float | np.integer | np.floating) and not isinstance(p, bool) and p >= 1:
        return float(p)
    raise ValueError(f"{owner} was given p = {p!r}; give the order of an lp norm: a number from 1 to infinity.")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _interval(above: float | None, at_least: float | None, below: float | None, at_most: float | None) -> str:
    lower = f"({above:g}" if above is not None else f"[{at_least:g}" if at_least is not None else ""
    upper = f"{below:g})" if below is not None else f"{at_most:g}]" if at_most is not None else ""
    if lower and upper:
        return f"a number in {lower}, {upper}"
    if above is not None:
        return f"a finite number above {above:g}"
    return "a finite number" if at_least is None else f"a finite number of {at_least:g} or more"
