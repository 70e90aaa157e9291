"""Words that several parts of the project put into sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def unknown(what: str, given: object, allowed: Iterable[object]) -> str:
    """Say that something is unknown, what was probably meant, and what is allowed."""
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(given), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{what} is unknown{hint}; allowed: {', '.join(names) or 'nothing'}."


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, as in "1 line" and "2 lines"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listing(words: Sequence[str]) -> str:
    """Return words with commas, and an "and" before the last."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
