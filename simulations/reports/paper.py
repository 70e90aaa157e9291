"""The paper's own numbers, found for the places of a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import Label, Over, PaperNumber, TableSection
from simulations.reports.summary import Place, labels_over, over_axis
from simulations.reports.sweeps import Sweep

Printed = tuple[float, float | None]

TASK = "dataset"  # the key that no small version of a number may have changed


class PaperNumbers:
    """The numbers that a paper prints, by place of a table.

    A number belongs to a place if its labels are those of the place. It may leave out axes that have a single
    label, and the axis over which the table has a worst case or an average: it is that then. It may name an axis
    that the small version removed, if the cells have that label's keys, but for those that the small version
    changes in all cells; its data set must be the number's.
    """

    def __init__(self, sweep: Sweep, numbers: Sequence[PaperNumber], metric: Metric, section: TableSection) -> None:
        self._sweep, self._metric, self._without = sweep, metric, section.without
        # Where a table has both over one axis, a number must say which it is.
        both = section.worst_case == section.average
        self._meant: dict[str, Over] = {} if both else dict(section.over)
        self._numbers = [
            number for number in numbers if number.metric in (None, metric) and self._removed_axes_agree(number.where)
        ]

    def find(self, place: Place) -> Printed | None:
        """Return mean and spread, or None where the paper prints nothing.

        A worst case or an average is taken over the same labels as ours where the paper has all of them; else it
        is what the paper prints as such.
        """
        axis = over_axis(place)
        if axis is not None:
            labels = labels_over(self._sweep, place, axis, self._without)
            parts = [self.find({**place, axis: label}) for label in labels]
            known = [part for part in parts if part is not None]
            if known and len(known) == len(parts):
                return self._combined(known, place[axis])
        return next(
            ((number.value, number.spread) for number in self._numbers if self._is_at(number.where, place)), None
        )

    def _combined(self, parts: list[Printed], over: object) -> Printed:
        if over is Over.MEAN:
            return statistics.fmean(mean for mean, _ in parts), None
        return self._metric.worst(parts, key=lambda part: part[0])

    def _is_at(self, where: Mapping[str, Label], place: Place) -> bool:
        return all(
            where[axis] == label if axis in where else self._may_leave_out(axis, label) for axis, label in place.items()
        )

    def _may_leave_out(self, axis: str, label: Label | Over) -> bool:
        if isinstance(label, Over):
            return self._meant.get(axis) is label
        return len(self._sweep.axes[axis]) == 1

    def _removed_axes_agree(self, where: Mapping[str, Label]) -> bool:
        return all(self._agrees(axis, label) for axis, label in where.items() if axis not in self._sweep.axes)

    def _agrees(self, axis: str, label: Label) -> bool:
        """Whether the cells are as a label of an axis that only the full version has would make them."""
        keys = next((one.parameters for one in self._sweep.full.axes.get(axis, ()) if one.label == label), {})
        full, here = self._sweep.full.parameters, self._sweep.experiment.parameters
        changed = {key for key in here if here[key] != full.get(key)} - {TASK}
        ran = self._sweep.cells[0].parameters
        return all(ran.get(key) == value for key, value in keys.items() if key not in changed)
