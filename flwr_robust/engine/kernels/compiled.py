"""How loops are compiled: kept on disk where that is possible, compiled anew in each process where it is not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from numba import njit

_told: list[str] = []


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return numba's decorator for loops that release Python's lock, kept on disk if a folder can be written.

    Parameters
    ----------
    **options
        Of ``numba.njit``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            dispatcher = njit(nogil=True, cache=True, **options)(function)
        except RuntimeError as error:
            # Neither the package's folder nor the user's own can be written.
            _tell_once(error)
            return njit(nogil=True, **options)(function)
        _survive(dispatcher._cache)
        return dispatcher

    return decorate


def _survive(cache: Any) -> None:
    """Let a cache that can no longer be read or written cost the caching, never the call."""

    def surviving(work: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            except OSError as error:
                _tell_once(error)
                return None

        return attempt

    cache.load_overload, cache.save_overload = surviving(cache.load_overload), surviving(cache.save_overload)


def _tell_once(error: Exception) -> None:
    if not _told:
        _told.append(str(error))
        warnings.warn(
            f"Compiled kernels cannot be kept on disk, so this process compiles them anew, in some seconds ({error}): "
            "set NUMBA_CACHE_DIR to a folder that can be written.",
            RuntimeWarning,
            stacklevel=2,
        )
