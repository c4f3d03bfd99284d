"""What an evaluation found: one long table of records, and summaries that compare learners on the same tasks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.evaluate.calibration import calibration_error
from upstairs.evaluate.certificate import Certificate
from upstairs.evaluate.effects import Effect
from upstairs.evaluate.episodes import LeftOut
from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.ranks import Ranks
from upstairs.evaluate.rope import PracticalDifference
from upstairs.evaluate.statistics import mean_interval, paired_bootstrap, ratio_interval, wilcoxon_holm
from upstairs.evaluate.summary import Ratio, Row, Summary

if TYPE_CHECKING:
    from upstairs.evaluate.negative_transfer import NegativeTransfer

__all__ = ["KEYS", "EvaluationResult", "Ratio", "Row", "Summary"]

KEYS = ("split", "task", "group", "shots", "draw", "learner", "queries", "adapt_seconds", "predict_seconds")


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
    bins : mapping of str to mapping of int to array of shape (bin, 3)
        Of learners that give probabilities, by number of shots: see `upstairs.evaluate.calibration`.
    megabytes : mapping of str to (float, float)
        Memory taken at most while learning from the training tasks, and while adapting to (up to 256) episodes; NaN: not known.
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
    bins: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)
    megabytes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    _cells: dict[tuple[int, str], Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        tasks = len(set(self.columns["task"].tolist()))
        return (
            f"EvaluationResult({len(self.learners)} learners, {tasks} tasks, shots {list(self.shots)}, {self.metric})"
        )

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots, ascending."""
        return tuple(np.unique(self.columns["shots"]).tolist())

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics measured, the primary one first."""
        found = [name for name in METRICS if name in self.columns and not np.isnan(self.columns[name]).all()]
        return tuple(sorted(found, key=lambda name: name != self.metric))

    def by_task(
        self, shots: int, metric: str | None = None
    ) -> tuple[list[str], list[str], Float[np.ndarray, "task learner"]]:
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
            gap = (np.nan, np.nan, np.nan) if n == reference else (float(better.mean()), *ends[n].tolist())
            low, high = mean_interval(column, clusters)
            rows.append(
                Row(
                    shots=shots,
                    learner=name,
                    baseline=name in self.baselines,
                    reference=n == reference,
                    tasks=len(column),
                    mean=float(column.mean()),
                    low=low,
                    high=high,
                    difference=gap[0],
                    difference_low=gap[1],
                    difference_high=gap[2],
                    p=p.get(n, np.nan),
                    wins=counts[0],
                    ties=counts[1],
                    losses=counts[2],
                    meta_seconds=float(self.meta_seconds.get(name, 0.0)),
                    milliseconds=milliseconds[name],
                )
            )
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
            raise TaskError(
                f"{learner!r} and {baseline!r} have no task in common at {shots} shots for {self._metric(metric)!r}."
            )
        above, below = pair[whole].T
        clusters = [group for group, keep in zip(groups, whole, strict=True) if keep]
        value = float(above.mean() / below.mean()) if below.mean() != 0 else math.nan
        return Ratio(value, *ratio_interval(above, below, clusters))

    def certificate(
        self, learner: str, metric: str | None = None, shots: int | None = None, **options: Any
    ) -> Certificate:
        """Bound the mean loss on new tasks, whatever the distribution of losses.

        Parameters
        ----------
        learner : str
            Chosen, as its prior, without these tasks.
        metric : str, optional
            With a range (of accuracy the error rate is bounded); of another give ``low``, ``high``, ``clip``.
        shots : int, optional
            The most by default.
        **options
            ``confidence=0.95``, ``low``, ``high``, ``clip``, ``method``, as `upstairs.evaluate.certificate.certify` takes them.
        """
        from upstairs.evaluate.questions import certificate_of

        return certificate_of(self, learner, metric, shots, **options)

    def compare(
        self, learner: str, against: str, shots: int | None = None, metric: str | None = None, **options: Any
    ) -> PracticalDifference:
        """Compare two learners where differences up to ``rope`` do not count: see `upstairs.evaluate.rope`."""
        from upstairs.evaluate.questions import compare

        return compare(self, learner, against, shots, metric, **options)

    def ranks(self, shots: int | None = None, metric: str | None = None, **options: Any) -> Ranks:
        """Rank ``learners`` over tasks and test which differ at ``level``: see `upstairs.evaluate.ranks`."""
        from upstairs.evaluate.questions import ranks_of

        return ranks_of(self, shots, metric, **options)

    def effect(
        self, learner: str, against: str, shots: int | None = None, metric: str | None = None, **options: Any
    ) -> Effect:
        """Keep a difference over tasks apart from chance ``over`` seeds or draws: see `upstairs.evaluate.effects`."""
        from upstairs.evaluate.questions import effect_of

        return effect_of(self, learner, against, shots, metric, **options)

    def calibration_error(self, learner: str, shots: int | None = None) -> float:
        """Mean distance between the confidence in the predicted label and how often it is right; see `upstairs.evaluate.calibration`.

        Over all query rows. NaN for a regression (see the metric ``coverage``) and for a learner without probabilities.

        Parameters
        ----------
        learner : str
        shots : int, optional
            The most by default.
        """
        if learner not in self.learners:
            raise TaskError(f"There is no learner {learner!r}; there are {', '.join(map(repr, self.learners))}.")
        bins = self.bins.get(learner, {}).get(self.shots[-1] if shots is None else shots)
        return math.nan if bins is None else calibration_error(bins)

    def same_numbers(self, other: EvaluationResult) -> bool:
        """Whether two results agree to the last bit in everything but time and memory."""
        names = [name for name in self.columns if not name.endswith("_seconds")]
        if set(self.columns) != set(other.columns) or self.episodes_hash != other.episodes_hash:
            return False
        return all(
            len(self.columns[name]) == len(other.columns[name])
            and np.array_equal(self.columns[name], other.columns[name], equal_nan=self.columns[name].dtype.kind == "f")
            for name in names
        )

    def negative_transfer(
        self, learner: str, tasks: Any, against: str | None = None, shots: int | None = None, **options: Any
    ) -> NegativeTransfer:
        """Say on which tasks the prior hurt, and what they have in common: see `upstairs.evaluate.negative_transfer`."""
        from upstairs.evaluate.negative_transfer import negative_transfer

        return negative_transfer(self, learner, tasks, against, shots, **options)

    def plot(self, metric: str | None = None, ax: Any = None) -> Any:
        """Draw the mean over tasks against the number of support rows (extra ``plot``): see `upstairs.report.plot_shots`."""
        from upstairs.evaluate.shown import plot

        return plot(self, metric, ax)

    def to_html(self, path: str | os.PathLike[str] | None = None, **parts: Any) -> str:
        """Tell it on one self-contained page: see `upstairs.report.evaluation_report`, which takes ``title`` and other parts.

        Parameters
        ----------
        path : path-like, optional
            Where the page is written. It is returned in any case.
        """
        from upstairs.evaluate.shown import to_html

        return to_html(self, path, **parts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a JSON file; a kill leaves the old file or the new. `load` reads it."""
        from upstairs.evaluate.frames import write_result

        write_result(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EvaluationResult:
        """Read what `save` wrote.

        Raises
        ------
        StorageError
            If the file cannot be read or is something else.
        """
        from upstairs.evaluate.frames import read_result

        return read_result(path)

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
        from upstairs.evaluate.frames import as_frame

        return as_frame(self.columns, library)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; NaN becomes None."""
        from upstairs.evaluate.frames import result_document

        return result_document(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> EvaluationResult:
        """Undo `to_dict`."""
        from upstairs.evaluate.frames import result_of

        return result_of(document)

    @staticmethod
    def concatenate(results: Sequence[EvaluationResult]) -> EvaluationResult:
        """Join the results of several splits; a task that stands in several of them counts once, by its mean.

        Raises
        ------
        TaskError
            If there is none, or they measured different kinds of task or different learners.
        """
        from upstairs.evaluate.frames import joined

        return joined(results)

    def _metric(self, metric: str | None) -> str:
        if metric is None:
            return self.metric
        if metric not in METRICS or metric not in self.columns:
            raise TaskError(f"metric={metric!r} was not measured; there are {', '.join(map(repr, self.metrics))}.")
        return metric

    def _milliseconds(self, shots: int) -> dict[str, float]:
        here = self.columns["shots"] == shots
        learner, seconds = self.columns["learner"][here], self.columns["adapt_seconds"][here]
        return {
            name: 1000.0 * float(seconds[learner == name].mean()) for name in self.learners if (learner == name).any()
        }
