"""What an evaluation found: one long table of records, and summaries that compare learners on the same tasks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self, final

import numpy as np
from jaxtyping import Float

from upstairs.errors import MissingExtraError, TaskError
from upstairs.evaluate.episodes import LeftOut
from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.statistics import mean_interval, paired_bootstrap, ratio_interval, wilcoxon_holm

__all__ = ["EvaluationResult", "Ratio", "Row", "Summary"]

KEYS = ("split", "task", "group", "shots", "draw", "learner", "queries", "adapt_seconds", "predict_seconds")


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One learner at one number of shots.

    ``mean``, ``low`` and ``high``: mean over tasks and its 95 % interval. ``difference`` and its ends: this learner
    minus the reference (the best baseline, or without baselines the best learner) on the same tasks, 95 % bootstrap
    interval over tasks or groups. ``p``: Wilcoxon signed rank, Holm's correction over the learners that are no
    baseline. Wins, ties and losses are tasks. ``meta_seconds`` and ``milliseconds`` (an adaptation) are cost.
    """

    shots: int
    learner: str
    baseline: bool
    reference: bool
    tasks: int
    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    p: float
    wins: int
    ties: int
    losses: int
    meta_seconds: float
    milliseconds: float


@final
@dataclass(frozen=True, slots=True)
class Ratio:
    """Mean of a learner divided by that of another on the same tasks, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.value


@final
@dataclass(frozen=True, slots=True)
class Summary:
    """Rows of all numbers of shots for one metric; ``str`` gives an aligned table."""

    metric: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return _text(self)


@final
@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Records of an evaluation, one a learner and episode, and what is said about them.

    Attributes
    ----------
    columns : mapping of str to array of shape (record,)
        ``split, task, group, shots, draw, learner, queries, adapt_seconds, predict_seconds`` and one column a metric
        (NaN where it could not be measured).
    kind, labels : str
        Of the tasks.
    metric : str
        The primary metric.
    learners, baselines : tuple of str
        Names of all learners in order, and of those that are baselines.
    meta_seconds : mapping of str to float
        Time to learn from the training tasks; zero for a learner that came fitted.
    left_out : tuple of LeftOut
        Episodes that could not be measured.
    notes : tuple of str
        What a reader should know, such as baselines that do not apply and how often one fell back.
    episodes_hash : str
        Equal for two results on the same episodes.
    scale : float
        What regression targets were divided by; 1 for a classification.
    """

    columns: Mapping[str, np.ndarray]
    kind: str
    labels: str | None
    metric: str
    learners: tuple[str, ...]
    baselines: tuple[str, ...]
    meta_seconds: Mapping[str, float]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    episodes_hash: str
    scale: float = 1.0
    _cells: dict[tuple[int, str], Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        tasks = len(set(self.columns["task"].tolist()))
        return f"EvaluationResult({len(self.learners)} learners, {tasks} tasks, shots {list(self.shots)}, {self.metric})"

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots, ascending."""
        return tuple(np.unique(self.columns["shots"]).tolist())

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics measured, the primary one first."""
        found = [name for name in METRICS if name in self.columns and not np.isnan(self.columns[name]).all()]
        return tuple(sorted(found, key=lambda name: name != self.metric))

    def by_task(self, shots: int, metric: str | None = None) -> tuple[list[str], list[str], Float[np.ndarray, "task learner"]]:
        """Mean over the draws (and splits) of every task: names, groups, and one column a learner.

        Raises
        ------
        TaskError
            For shots or a metric that were not measured.
        """
        metric = self._metric(metric)
        if shots not in self.shots:
            raise TaskError(f"shots={shots} was not measured; there are {', '.join(map(str, self.shots))}.")
        if (shots, metric) not in self._cells:
            here = self.columns["shots"] == shots
            task, value, learner = (self.columns[name][here] for name in ("task", metric, "learner"))
            names, first, codes = np.unique(task, return_index=True, return_inverse=True)
            place = {name: number for number, name in enumerate(self.learners)}
            columns = np.array([place[name] for name in learner.tolist()])
            known = ~np.isnan(value)
            shape = (len(names), len(self.learners))
            total, count = np.zeros(shape), np.zeros(shape)
            np.add.at(total, (codes[known], columns[known]), value[known])
            np.add.at(count, (codes[known], columns[known]), 1.0)
            mean = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
            groups = self.columns["group"][here][first].tolist()
            self._cells[shots, metric] = names.tolist(), groups, mean
        return self._cells[shots, metric]

    def table(self, shots: int, metric: str | None = None) -> tuple[Row, ...]:
        """Compare the learners at one number of shots, best first.

        A metric is compared on the tasks where every learner that has it could be measured.

        Parameters
        ----------
        shots : int
        metric : str, optional
            The primary one by default.
        """
        metric = self._metric(metric)
        _, groups, values = self.by_task(shots, metric)
        measured = [n for n in range(len(self.learners)) if not np.isnan(values[:, n]).all()]
        whole = ~np.isnan(values[:, measured]).any(axis=1)
        if not measured or not whole.any():
            return ()
        values, clusters = values[whole], [group for group, keep in zip(groups, whole, strict=True) if keep]
        loss = {n: METRICS[metric].loss(float(values[:, n].mean())) for n in measured}
        rivals = [n for n in measured if self.learners[n] in self.baselines] or measured
        reference = min(rivals, key=lambda n: loss[n])
        others = [n for n in measured if n != reference]
        difference = values[:, others] - values[:, [reference]]
        ends = dict(zip(others, paired_bootstrap(difference, clusters), strict=True)) if others else {}
        tested = [n for n in others if self.learners[n] not in self.baselines]
        goal = METRICS[metric].goal
        p: dict[int, float] = {}
        if tested and isinstance(goal, str):
            found = wilcoxon_holm(values[:, tested] - values[:, [reference]], clusters)
            p = dict(zip(tested, found.tolist(), strict=True))
        milliseconds = self._milliseconds(shots)
        rows = []
        for n in sorted(measured, key=lambda n: (loss[n], n)):
            name, column = self.learners[n], values[:, n]
            better = column - values[:, reference]
            sign = 1.0 if goal == "higher" else -1.0
            tie = np.abs(better) <= 1e-9 * np.maximum(np.abs(column), 1e-3)
            counts = (int((~tie & (sign * better > 0)).sum()), int(tie.sum()), int((~tie & (sign * better < 0)).sum()))
            if n == reference or not isinstance(goal, str):
                counts = (0, 0, 0)
            gap = (np.nan,) * 3 if n == reference else (float(better.mean()), *(float(end) for end in ends[n]))
            interval = mean_interval(column, clusters)
            rows.append(
                Row(shots, name, name in self.baselines, n == reference, len(column), float(column.mean()), *interval, *gap,
                    p.get(n, np.nan), *counts, float(self.meta_seconds.get(name, 0.0)), milliseconds[name])
            )  # fmt: skip
        return tuple(rows)

    def summary(self, metric: str | None = None) -> Summary:
        """Compare the learners at every number of shots; print it, or read its ``rows``."""
        metric = self._metric(metric)
        rows = tuple(row for shots in self.shots for row in self.table(shots, metric))
        gone = [str(entry) for entry in self.left_out if entry.metric in (None, metric)]
        return Summary(metric, rows, (*self.notes, *gone))

    def ratio(self, learner: str, baseline: str, shots: int, metric: str | None = None) -> Ratio:
        """Mean of a learner divided by the mean of a baseline, on the tasks that both were measured on.

        Raises
        ------
        TaskError
            For a name that is not in the result.
        """
        for name in (learner, baseline):
            if name not in self.learners:
                raise TaskError(f"There is no learner {name!r}; there are {', '.join(map(repr, self.learners))}.")
        _, groups, values = self.by_task(shots, metric)
        pair = values[:, [self.learners.index(learner), self.learners.index(baseline)]]
        whole = ~np.isnan(pair).any(axis=1)
        if not whole.any():
            raise TaskError(f"{learner!r} and {baseline!r} have no task in common at {shots} shots for {self._metric(metric)!r}.")
        above, below = pair[whole].T
        clusters = [group for group, keep in zip(groups, whole, strict=True) if keep]
        value = float(above.mean() / below.mean()) if below.mean() != 0 else math.nan
        return Ratio(value, *ratio_interval(above, below, clusters))

    def to_frame(self, library: str = "pandas") -> Any:
        """Return the records as a data frame.

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
        data = {name: column.tolist() for name, column in self.columns.items()}
        try:
            if library == "pandas":
                import pandas as pd

                return pd.DataFrame(data)
            if library == "polars":
                import polars as pl

                return pl.DataFrame(data)
            if library == "pyarrow":
                import pyarrow as pa

                return pa.table(data)
        except ImportError as error:
            raise MissingExtraError(f"to_frame(library={library!r}) needs {library}; install it: pip install {library}.") from error
        raise TaskError(f"library must be 'pandas', 'polars' or 'pyarrow', but is {library!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; NaN becomes None."""
        said = {name: getattr(self, name) for name in ("kind", "labels", "metric", "episodes_hash", "scale")}
        said |= {name: list(getattr(self, name)) for name in ("learners", "baselines", "notes")}
        said |= {"meta_seconds": dict(self.meta_seconds), "left_out": [asdict(entry) for entry in self.left_out]}
        for entry in said["left_out"]:
            entry["tasks"] = list(entry["tasks"])
        columns = {name: [_plain(value) for value in column.tolist()] for name, column in self.columns.items()}
        return said | {"columns": columns}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        columns = {
            name: np.array([np.nan if value is None else value for value in values]) for name, values in document["columns"].items()
        }
        left_out = [LeftOut(**{**entry, "tasks": tuple(entry["tasks"])}) for entry in document["left_out"]]
        given = {name: document[name] for name in ("kind", "labels", "metric", "meta_seconds", "episodes_hash", "scale")}
        lists = {name: tuple(document[name]) for name in ("learners", "baselines", "notes")}
        return cls(columns=columns, left_out=tuple(left_out), **given, **lists)

    @staticmethod
    def concatenate(results: Sequence[EvaluationResult]) -> EvaluationResult:
        """Join the results of several splits; a task that stands in several of them counts once, by its mean.

        Raises
        ------
        TaskError
            If there is none, or they measured different kinds of task or different learners.
        """
        if not results:
            raise TaskError("concatenate needs at least one result, but got none.")
        first = results[0]
        for other in results[1:]:
            for name in ("kind", "labels", "metric"):
                if getattr(other, name) != getattr(first, name):
                    raise TaskError(
                        f"Results to join must have the same {name}, but have {getattr(first, name)!r} and {getattr(other, name)!r}."
                    )
            if set(other.learners) != set(first.learners):
                odd = sorted(set(other.learners) ^ set(first.learners))[0]
                raise TaskError(f"Results to join must have the same learners, but {odd!r} is not in all; leave it out of both.")
        splits, start = [], 0
        for result in results:
            splits.append(result.columns["split"] + start)
            start += int(result.columns["split"].max()) + 1
        parts = [_own_names(result, number) for number, result in enumerate(results)]
        names = [name for name in first.columns if name != "split"]
        names += [name for part in parts for name in part if name not in names and name != "split"]
        columns = {"split": np.concatenate(splits)}
        for name in dict.fromkeys(names):
            columns[name] = np.concatenate([part.get(name, np.full(len(part["task"]), np.nan)) for part in parts])
        seconds = {name: sum(result.meta_seconds.get(name, 0.0) for result in results) for name in first.learners}
        notes = [note for result in results for note in result.notes]
        return replace(
            first,
            columns=MappingProxyType(columns),
            meta_seconds=seconds,
            left_out=tuple(entry for result in results for entry in result.left_out),
            notes=tuple(note if notes.count(note) < 2 else f"{note} [{notes.count(note)} splits]" for note in dict.fromkeys(notes)),
            episodes_hash=hashlib.sha256("".join(result.episodes_hash for result in results).encode()).hexdigest(),
            scale=float(np.mean([result.scale for result in results])),
            _cells={},
        )

    def _metric(self, metric: str | None) -> str:
        if metric is None:
            return self.metric
        if metric not in METRICS or metric not in self.columns:
            raise TaskError(f"metric={metric!r} was not measured; there are {', '.join(map(repr, self.metrics))}.")
        return metric

    def _milliseconds(self, shots: int) -> dict[str, float]:
        here = self.columns["shots"] == shots
        learner, seconds = self.columns["learner"][here], self.columns["adapt_seconds"][here]
        return {name: 1000.0 * float(seconds[learner == name].mean()) for name in self.learners if (learner == name).any()}


def _own_names(result: EvaluationResult, number: int) -> dict[str, np.ndarray]:
    """Columns of a part; episodes of a class pool are new ones in every split and get names of their own."""
    columns = dict(result.columns)
    if all(name.startswith("episode-") for name in set(columns["task"].tolist())):
        for name in ("task", "group"):
            columns[name] = np.array([f"split-{number}/{entry}" for entry in columns[name].tolist()])
    return columns


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(summary: Summary) -> str:
    metric = METRICS[summary.metric]
    lines = [f"{summary.metric} ({metric.said}): {metric.meaning}"]
    titles = ("learner", summary.metric, "95 % interval", "difference", "95 % interval", "p", "won-tied-lost", "learning s", "adapt ms")
    body: list[tuple[str, ...]] = []
    marks: list[str | None] = []
    shots = None
    for row in summary.rows:
        if row.shots != shots:
            shots = row.shots
            against = next((r.learner for r in summary.rows if r.shots == shots and r.reference), "")
            marks.append(f"{shots} {'shot' if shots == 1 else 'shots'}, {row.tasks} tasks; differences from {against!r}")
            body.append(())
        marks.append(None)
        record = "" if row.reference or not isinstance(metric.goal, str) else f"{row.wins}-{row.ties}-{row.losses}"
        body.append(
            (row.learner + (" *" if not row.baseline else ""), f"{row.mean:.4f}", _between(row.low, row.high), _number(row.difference, "+.4f"),
             _between(row.difference_low, row.difference_high), _number(row.p, ".2g"), record, f"{row.meta_seconds:.2f}",
             f"{row.milliseconds:.2f}")
        )  # fmt: skip
    widths = [max(len(line[n]) for line in [titles, *[entry for entry in body if entry]]) for n in range(len(titles))]
    aligned = lambda cells: "  ".join(  # noqa: E731
        cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()
    lines += ["", aligned(titles)]
    for mark, cells in zip(marks, body, strict=True):
        lines.append(f"-- {mark}" if mark is not None else aligned(cells))
    lines += ["", "* learner under test; the others are baselines. p: Wilcoxon signed rank over tasks, Holm's correction."]
    return "\n".join([*lines, *(f"note: {note}" for note in summary.notes)])


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _between(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:.4f} to {high:.4f}"
