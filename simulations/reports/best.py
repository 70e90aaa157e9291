"""Which places of a table are the best of those that compete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import COLUMNS, ROWS, Label, Over, TableSection
from simulations.reports.summary import Place, Summary, fixed
from simulations.reports.sweeps import Sweep

Numbers = Sequence[tuple[Place, Summary | None]]


def find_best(
    sweep: Sweep,
    numbers: Numbers,
    metric: Metric,
    section: TableSection,
    row_axes: tuple[str, ...],
) -> list[bool]:
    """Tell for each place whether it is the best of those that differ in what is compared; what looks alike ties.

    What the section says to leave out does not compete, nor does what nobody attacks with what is attacked. Worst
    cases and averages are compared only if each label that they are taken over has a finished cell.

    Parameters
    ----------
    sweep : Sweep
        Its cells.
    numbers : sequence of (place, Summary or None)
        All places of the table.
    metric : Metric
        What they show.
    section : TableSection
        What is compared.
    row_axes : tuple of str
        Axes that go down.
    """
    along, blocks = compared_axes(section), block_of(sweep, section, row_axes)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, (place, _) in enumerate(numbers):
        if not any(label in section.without for label in place.values()):
            groups[_group(place, along, blocks)].append(index)
    found = [False] * len(numbers)
    for group in groups.values():
        for index in _winners(sweep, numbers, group, metric):
            found[index] = True
    return found


def block_of(sweep: Sweep, section: TableSection, down: tuple[str, ...]) -> dict[Label, int]:
    """Return the number of the block that each label of the last axis down is in; without blocks nothing."""
    if section.block_size is None or not down:
        return {}
    labels = [label for label in sweep.axes[down[-1]] if label not in section.without]
    return {label: number // section.block_size for number, label in enumerate(labels)}


def compared_axes(section: TableSection) -> tuple[str, ...]:
    """Return the axes in which places differ that are compared."""
    last = {ROWS: section.rows[-1:], COLUMNS: section.columns[-1:]}
    return tuple(axis for word in section.compare_along for axis in last.get(word, (word,)))


def _group(place: Place, along: Collection[str], blocks: dict[Label, int]) -> Hashable:
    """Return what places that are compared have in common."""
    others = frozenset((axis, label) for axis, label in place.items() if axis not in along)
    over = frozenset((axis, label) for axis, label in place.items() if isinstance(label, Over))
    block = next((blocks[label] for label in place.values() if not isinstance(label, Over) and label in blocks), None)
    return others, over, block


def _winners(sweep: Sweep, numbers: Numbers, group: list[int], metric: Metric) -> list[int]:
    over = any(isinstance(label, Over) for label in numbers[group[0]][0].values())
    attacked = [index for index in group if sweep.is_attacked(fixed(numbers[index][0]))]
    known = {index: number for index in attacked or group if (number := numbers[index][1]) is not None}
    whole = len(known) == len(attacked or group) and all(number.whole for number in known.values())
    if not metric.better or len(known) < 2 or (over and not whole):
        return []
    return metric.best({index: number.mean for index, number in known.items()})
