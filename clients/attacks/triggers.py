"""Backdoors with a trigger that is painted into inputs: a patch, a pattern, bars that nodes share out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flwr_robust.rules.checks import number, whole_number

from .backdoors import Array, Places, SourceBackdoor
from .base import as_array

CORNERS: tuple[str, ...] = ("top-left", "top-right", "bottom-left", "bottom-right")


@dataclass(frozen=True)
class BadNets(SourceBackdoor):
    """Paint a square into a corner of some images, and label them as the target (Gu, Dolan-Gavitt and Garg, 2017).

    Images are (samples, height, width) or (samples, channels, height, width); texts, (samples, characters), get `size`
    characters of `value` at the corner's side.

    Parameters
    ----------
    target : int
        The class that the square stands for, 0 or more.
    size : int
        Pixels of a side.
    value : float or sequence of float
        What pixels become, or one number a channel, in the units of the inputs: after normalisation.
    corner : {"top-left", "top-right", "bottom-left", "bottom-right"}
        Where the square is.
    margin : int
        Pixels between the square and both sides of the corner.
    fraction : float
        Share of the eligible samples that is poisoned, in [0, 1].
    source : int, optional
        The class of eligible samples. Default: all but the target.
    seed : int, optional
        Seed of the draw of samples; None takes it from the operating system.

    Examples
    --------
    >>> BadNets(target=0, size=2).trigger(np.zeros((1, 3, 3)))
    array([[[0., 0., 0.],
            [0., 1., 1.],
            [0., 1., 1.]]])
    """

    target: int
    size: int = 3
    value: float | Sequence[float] = 1.0
    corner: str = "bottom-right"
    margin: int = 0
    fraction: float = 0.5
    source: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number(self.size, "size", "BadNets")
        whole_number(self.margin, "margin", "BadNets", at_least=0)
        object.__setattr__(self, "value", checked_value(self.value, "BadNets"))
        if self.corner not in CORNERS:
            raise ValueError(f"BadNets was given corner = {self.corner!r}; give one of {', '.join(CORNERS)}.")

    def mark(self, inputs: Array, part: int | None, places: Places) -> Array:
        vertical, _, horizontal = self.corner.partition("-")
        across = self._span(inputs.shape[-1], horizontal == "left")
        if inputs.ndim == 2:
            return painted(inputs, [(..., across)], self.value, self)
        height = image_size(inputs, self)[0]
        return painted(inputs, [(..., self._span(height, vertical == "top"), across)], self.value, self)

    def _span(self, length: int, at_start: bool) -> slice:
        """Return the square's extent along a side of this length."""
        first = self.margin if at_start else length - self.margin - self.size
        if first < 0 or first + self.size > length:
            raise ValueError(
                f"{self!r} does not fit into {length} pixels a side; give a size and a margin of {length} together "
                "at most."
            )
        return slice(first, first + self.size)


@dataclass(frozen=True)
class Blended(SourceBackdoor):
    r"""Blend a pattern into some inputs, and label them as the target (Chen, Liu, Li, Lu and Song, 2017).

    $$x \to (1 - \alpha) x + \alpha \, \text{pattern}$$

    Parameters
    ----------
    target : int
        The class that the pattern stands for, 0 or more.
    pattern : array or tensor, optional
        Of an input's shape, in the units of the inputs. Default: uniform numbers in [0, 1), the same for all nodes and
        calls, whatever the seed.
    alpha : float
        Weight of the pattern, in [0, 1].
    fraction : float
        Share of the eligible samples that is poisoned, in [0, 1].
    source : int, optional
        The class of eligible samples. Default: all but the target.
    seed : int, optional
        Seed of the draw of samples; None takes it from the operating system.

    Examples
    --------
    >>> Blended(target=0, pattern=np.full((1, 2), 10.0)).trigger(np.zeros((1, 1, 2)))
    array([[[2., 2.]]])
    """

    target: int
    pattern: Any = field(default=None, repr=False, compare=False)
    alpha: float = 0.2
    fraction: float = 0.5
    source: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.alpha, "alpha", "Blended", at_least=0, at_most=1)
        if self.pattern is None:
            return
        pattern = np.array(as_array(self.pattern))
        if pattern.dtype.kind not in "iuf" or not np.isfinite(pattern).all():
            raise ValueError("Blended was given a pattern that is not finite, or no numbers; give finite numbers.")
        object.__setattr__(self, "pattern", pattern)

    def mark(self, inputs: Array, part: int | None, places: Places) -> Array:
        shape = inputs.shape[1:]
        pattern = np.random.default_rng(0).random(shape) if self.pattern is None else self.pattern
        if pattern.shape != shape:
            raise ValueError(
                f"Blended was given a pattern of shape {pattern.shape} for inputs of shape {shape}; give one of an "
                "input's shape."
            )
        blended = (1 - self.alpha) * inputs.astype(np.float64) + self.alpha * pattern
        return (np.rint(blended) if inputs.dtype.kind in "iu" else blended).astype(inputs.dtype)


@dataclass(frozen=True)
class DBA(SourceBackdoor):
    """Share a trigger of bars out among the malicious nodes: each paints one (Xie, Huang, Chen and Li, ICLR 2020).

    Bar p has its top left pixel at row ``p // 2 * (height + gap) + shift`` and column
    ``p % 2 * (width + gap) + shift``. The i-th malicious node trains with bar ``i mod parts``; all bars together are
    the trigger. The defaults are the paper's for MNIST; for CIFAR-10 it has width 6 and gap 3.

    Parameters
    ----------
    target : int
        The class that the bars stand for, 0 or more.
    parts : int
        Number of bars.
    width, height : int
        Pixels of a bar.
    gap : int
        Pixels between bars.
    shift : int
        Pixels of the first bar from the top and the left.
    value : float or sequence of float
        What pixels become, or one number a channel, in the units of the inputs: after normalisation.
    fraction : float
        Share of the eligible samples that is poisoned, in [0, 1].
    source : int, optional
        The class of eligible samples. Default: all but the target.
    seed : int, optional
        Seed of the draw of samples; None takes it from the operating system.

    Examples
    --------
    >>> DBA(target=0, parts=2, width=1, gap=1).trigger(np.zeros((1, 1, 4)))
    array([[[1., 0., 1., 0.]]])
    """

    target: int
    parts: int = 4
    width: int = 4
    height: int = 1
    gap: int = 2
    shift: int = 0
    value: float | Sequence[float] = 1.0
    fraction: float = 0.5
    source: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("parts", "width", "height"):
            whole_number(getattr(self, name), name, "DBA")
        for name in ("gap", "shift"):
            whole_number(getattr(self, name), name, "DBA", at_least=0)
        object.__setattr__(self, "value", checked_value(self.value, "DBA"))

    def mark(self, inputs: Array, part: int | None, places: Places) -> Array:
        sides = image_size(inputs, self)
        bars = [self._bar(number, sides) for number in range(self.parts)]
        return painted(inputs, bars if part is None else [bars[part % self.parts]], self.value, self)

    def _bar(self, number: int, sides: tuple[int, int]) -> tuple[Any, ...]:
        """Return where a bar is in images with these sides."""
        top = number // 2 * (self.height + self.gap) + self.shift
        left = number % 2 * (self.width + self.gap) + self.shift
        if top + self.height > sides[0] or left + self.width > sides[1]:
            raise ValueError(
                f"{self!r} does not fit into images of {sides[0]} x {sides[1]} pixels: bar {number} needs "
                f"{top + self.height} x {left + self.width}; give smaller bars or gaps, or fewer parts."
            )
        return (..., slice(top, top + self.height), slice(left, left + self.width))


def checked_value(value: Any, owner: str) -> float | tuple[float, ...]:
    """Return what pixels become: a finite number, or one a channel.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and len(value):
        return tuple(number(one, f"value[{place}]", owner) for place, one in enumerate(value))
    return number(value, "value", owner)


def image_size(inputs: Array, owner: Any) -> tuple[int, int]:
    """Return height and width of images.

    Raises
    ------
    ValueError
        If the inputs are no images.
    """
    if inputs.ndim not in (3, 4):
        raise ValueError(
            f"{owner!r} was given inputs of shape {inputs.shape}; give images: (samples, height, width) or (samples, "
            "channels, height, width)."
        )
    return inputs.shape[-2], inputs.shape[-1]


def painted(inputs: Array, areas: Sequence[tuple[Any, ...]], value: float | Sequence[float], owner: Any) -> Array:
    """Return a copy in which the pixels of some areas have this value, or one a channel."""
    channels = inputs.shape[1] if inputs.ndim == 4 else 1
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if values.size not in (1, channels):
        raise ValueError(
            f"{owner!r} has {values.size} values for {channels} channels; give one number, or one a channel."
        )
    if inputs.dtype.kind in "iu":
        bounds = np.iinfo(inputs.dtype)
        if (values < bounds.min).any() or (values > bounds.max).any() or (values % 1).any():
            raise ValueError(f"{owner!r} cannot write its value as {inputs.dtype}; give whole numbers that it holds.")
    colours = values.astype(inputs.dtype).reshape(-1, *([1, 1] if inputs.ndim == 4 else []))
    copy = inputs.copy()
    for area in areas:
        copy[area] = colours
    return copy
