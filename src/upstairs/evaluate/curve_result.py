"""A measured curve of the error over the number of training tasks, and what it says about more of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, final

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.evaluate.curve_fit import CurveDraws, fit_curve
from upstairs.evaluate.frames import as_frame
from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.statistics import cluster_sums

__all__ = ["Forecast", "TaskCurve"]

RESAMPLES = 200
"""Resamples of the test tasks for an interval about new ones."""
ZERO_AT_BEST = ("mse", "mae", "log_loss", "brier")
"""Losses of which no curve ends below zero. Where more is better, no curve ends above one."""


@final
@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of a prior that is learned from so many tasks.

    ``mean``, and ``low`` to ``high``, which holds the value with probability ``level``. ``on`` says of which test
    tasks: "same", those that were measured, or "new", all such tasks. ``gain``, ``gain_low`` and ``gain_high`` are
    the change against all tasks at hand on the same test tasks, above zero for better.
    """

    tasks: int
    shots: int
    mean: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    level: float
    on: str


@final
@dataclass(frozen=True, eq=False)
class TaskCurve:
    """Values of one metric on the same test tasks, after learning from more and more training tasks.

    Attributes
    ----------
    sizes : tuple of int
        Numbers of training tasks, ascending; the last is all of them.
    unit : str
        What is counted: "tasks", "classes" of a pool, or "groups".
    metric : str
    values : mapping of shots to array of shape (order, size, task)
        Mean over the draws of every test task.
    names, groups : mapping of shots to tuple of str
        Of the test tasks.
    seconds : array of shape (order, size)
        To learn.
    episodes_hash : str
    """

    sizes: tuple[int, ...]
    unit: str
    metric: str
    values: Mapping[int, Float[np.ndarray, "order size task"]]
    names: Mapping[int, tuple[str, ...]]
    groups: Mapping[int, tuple[str, ...]]
    seconds: Float[np.ndarray, "order size"]
    episodes_hash: str
    _fits: dict[tuple[int, str], CurveDraws] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        orders, _, tasks = self.values[self.shots[0]].shape
        return (
            f"TaskCurve({self.metric} at {', '.join(map(str, self.shots))} shots, {self.sizes[0]} to {self.sizes[-1]} "
            f"{self.unit}, {orders} orders, {tasks} test tasks)"
        )

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of support rows, ascending."""
        return tuple(sorted(self.values))

    def measured(self, shots: int | None = None) -> Float[np.ndarray, "order size"]:
        """Mean over the test tasks, for every order and number of training tasks.

        Raises
        ------
        TaskError
            For shots that were not measured.
        """
        return self.values[self._shots(shots)].mean(axis=2)

    def fitted(self, shots: int | None = None, on: str = "same") -> CurveDraws:
        """Curves that agree with what was measured, as losses (less is better); see `upstairs.evaluate.curve_fit`."""
        shots = self._shots(shots)
        if on not in ("same", "new"):
            raise TaskError(f"on must be 'same' (the test tasks measured) or 'new' (all such tasks), but is {on!r}.")
        if (shots, on) not in self._fits:
            losses = self._loss(self.values[shots])
            means = losses.mean(axis=2)[None] if on == "same" else _resampled(losses, self.groups[shots])
            bound = 0.0 if METRICS[self.metric].goal == "higher" or self.metric in ZERO_AT_BEST else -np.inf
            self._fits[shots, on] = fit_curve(means, np.array(self.sizes), bound=bound)
        return self._fits[shots, on]

    def predict(
        self,
        tasks: int,
        *,
        shots: int | None = None,
        level: float = 0.8,
        on: str = "same",
    ) -> Forecast:
        """Carry the curve on to another number of training tasks.

        Parameters
        ----------
        tasks : int
            In all, counted in ``unit``. Below the number at hand: another random part of them.
        shots : int, optional
            The first by default.
        level : float
            Coverage of the interval.
        on : {"same", "new"}
            What the interval is about: the mean over the test tasks that were measured, or over all such tasks, in
            which case it is wider, as the test tasks are resampled (by group).

        Returns
        -------
        Forecast

        Raises
        ------
        TaskError
            For an argument out of range.
        """
        shots = self._shots(shots)
        if isinstance(tasks, bool) or not isinstance(tasks, int | np.integer) or tasks < 1:
            raise TaskError(
                f"tasks must be a whole number of at least 1, but is {tasks!r}; for example {2 * self.sizes[-1]}."
            )
        if not 0.0 < level < 1.0:
            raise TaskError(f"level must lie between 0 and 1, but is {level!r}; for example level=0.8.")
        ends = (0.5 - level / 2, 0.5 + level / 2)
        errors = self.fitted(shots, on).errors(tasks)
        same = errors if on == "same" else self.fitted(shots).errors(tasks)
        gain = float(self._loss(self.measured(shots))[0, -1]) - same
        found = self._loss(np.array([errors.mean(), *np.quantile(errors, ends)]))
        low, high = sorted(found[1:].tolist())
        gain_low, gain_high = np.quantile(gain, ends).tolist()
        return Forecast(
            int(tasks), shots, float(found[0]), low, high, float(gain.mean()), gain_low, gain_high, level, on
        )

    def in_words(
        self, tasks: int | None = None, *, shots: int | None = None, level: float = 0.8, worth: float = 0.05
    ) -> str:
        """Say in two sentences what more tasks would bring.

        Parameters
        ----------
        tasks : int, optional
            Twice as many as there are, by default.
        shots : int, optional
        level : float
        worth : float
            A gain is worth something from this share on of what separates the value from the best possible one (of
            the value itself, where there is none).
        """
        most = self.sizes[-1]
        tasks = 2 * most if tasks is None else tasks
        there = self.predict(tasks, shots=shots, level=level)
        now = float(self.measured(there.shots)[0, -1])
        unit = max(abs(float(self._loss(np.array([now]))[0])), 1e-12)
        many = "twice as many" if tasks == 2 * most else f"{tasks}"
        moves = "fall" if there.mean < now else "rise"
        said = (
            f"With {many} {self.unit} ({tasks} instead of {most}) the {self.metric} at {there.shots} shots is expected to {moves} "
            f"from {now:.3f} to {there.mean:.3f} ({level:.0%} interval {there.low:.3f} to {there.high:.3f})"
        ).replace("%", " %")
        if there.gain_high < worth * unit:
            verdict = f"more {self.unit} hardly help"
        elif there.gain_low > worth * unit:
            verdict = f"more {self.unit} would help"
        elif there.gain_low > 0:
            verdict = f"more {self.unit} would help a little, or more than that"
        else:
            verdict = f"whether more {self.unit} help is not clear from these"
        return f"{said}; {verdict}."

    def over_shots(self, size: int | None = None) -> dict[int, float]:
        """Mean over orders and test tasks for every number of support rows, after learning from ``size`` tasks (all)."""
        if size is not None and size not in self.sizes:
            raise TaskError(f"size={size!r} was not measured; there are {', '.join(map(str, self.sizes))}.")
        place = self.sizes.index(size) if size is not None else -1
        return {shots: float(self.measured(shots)[:, place].mean()) for shots in self.shots}

    def to_frame(self, library: str = "pandas") -> Any:
        """Return one row for every order, number of tasks, shots and test task.

        Parameters
        ----------
        library : {"pandas", "polars", "pyarrow"}

        Raises
        ------
        MissingExtraError
            If the library is not installed.
        TaskError
            If it is another one.
        """
        rows = [
            (order, size, shots, name, group, float(values[order, place, task]), float(self.seconds[order, place]))
            for shots, values in sorted(self.values.items())
            for order in range(values.shape[0])
            for place, size in enumerate(self.sizes)
            for task, (name, group) in enumerate(zip(self.names[shots], self.groups[shots], strict=True))
        ]
        columns = ("order", self.unit, "shots", "task", "group", self.metric, "meta_seconds")
        data = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
        return as_frame(data, library)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        by_shots = {
            str(shots): {
                "values": self.values[shots].tolist(),
                "names": list(self.names[shots]),
                "groups": list(self.groups[shots]),
            }
            for shots in self.shots
        }
        said = {name: getattr(self, name) for name in ("unit", "metric", "episodes_hash")}
        return said | {"sizes": list(self.sizes), "seconds": self.seconds.tolist(), "shots": by_shots}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> TaskCurve:
        """Undo `to_dict`."""
        parts = {int(shots): part for shots, part in document["shots"].items()}
        return cls(
            sizes=tuple(document["sizes"]),
            unit=document["unit"],
            metric=document["metric"],
            values=MappingProxyType({shots: np.array(part["values"]) for shots, part in parts.items()}),
            names=MappingProxyType({shots: tuple(part["names"]) for shots, part in parts.items()}),
            groups=MappingProxyType({shots: tuple(part["groups"]) for shots, part in parts.items()}),
            seconds=np.array(document["seconds"]),
            episodes_hash=document["episodes_hash"],
        )

    def _shots(self, shots: int | None) -> int:
        if shots is None:
            return self.shots[0]
        if shots not in self.values:
            raise TaskError(f"shots={shots!r} was not measured; there are {', '.join(map(str, self.shots))}.")
        return int(shots)

    def _loss(self, values: np.ndarray) -> np.ndarray:
        """Turn values into losses and back: less is better, zero is best where there is a best."""
        return 1.0 - values if METRICS[self.metric].goal == "higher" else values


def _resampled(
    losses: Float[np.ndarray, "order size task"], groups: tuple[str, ...]
) -> Float[np.ndarray, "resample order size"]:
    """Means over test tasks drawn again (by group), a little further apart so that few of them are not too sure."""
    flat = losses.reshape(-1, losses.shape[2]).T
    sums, counts = cluster_sums(flat, groups)
    number = len(sums)
    if number < 2:
        raise TaskError("An interval about new tasks needs two test tasks (or groups), but there is one; bring more.")
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1.0 / number), size=RESAMPLES)
    means = (drawn @ sums) / (drawn @ counts)[:, None]
    centre = flat.mean(axis=0)
    return (centre + (number / (number - 1)) ** 0.5 * (means - centre)).reshape(RESAMPLES, *losses.shape[:2])
