"""The columns of one layer, for rules that look at it alone."""

from __future__ import annotations

from collections.abc import Sequence

from flwr_robust.engine.updates import Layer


def columns_of(layers: Sequence[Layer], name: str | None, owner: str) -> tuple[int, int] | None:
    """Return the columns ``start, stop`` of the layer of this name; None, for all of them, without a name.

    Raises
    ------
    ValueError
        If there is no such layer; the text names the owner.
    """
    if name is None:
        return None
    for layer in layers:
        if layer.name == name:
            return layer.start, layer.stop
    there = ", ".join(layer.name for layer in layers[:20]) or "none"
    raise ValueError(f"{owner} was given layer = {name!r}, but the layers are {there}: name one, or give layers=.")
