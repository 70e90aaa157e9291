"""Sentences about names that are not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """Return ``(did you mean ...?)`` for a name that is nearly right, else nothing."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def unknown(what: str, allowed: Iterable[object], given: object) -> str:
    """Say that something is unknown and what is allowed; `what` ends just before the name that was given."""
    names = [str(name) for name in allowed]
    return f"{what} {given!r}{suggestion(str(given), names)}; allowed: {', '.join(names) or 'nothing'}."
