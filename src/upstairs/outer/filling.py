"""Fill a table of experience: every setting on every task, in parallel, each trial bounded, none made twice."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import joblib
import numpy as np
from threadpoolctl import threadpool_limits

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.outer.experience import Experience
from upstairs.outer.fits import on_a_cluster, run_fits
from upstairs.outer.journal import Journal, Record, settings_key
from upstairs.outer.metafeatures import describe
from upstairs.outer.trials import SCORES, Settings, Trials
from upstairs.outer.workers import Batch, Outcome, run_bounded, run_here
from upstairs.tasks.fingerprint import fingerprint
from upstairs.tasks.task import Task

__all__ = ["distinct", "fill", "tabulated"]

_AT_ONCE = 8
"""Trials that go to a process together with their data, so that processes end at about the same time."""


def fill(
    trials: Trials,
    tasks: Sequence[Task],
    names: Sequence[str],
    settings: Sequence[Settings],
    journal: Journal,
    *,
    n_jobs: int | None = 1,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Record]]:
    """Try every setting on every task that the journal does not know yet.

    Parameters
    ----------
    trials : Trials
    tasks : sequence of Task
    names : sequence of str
        The fingerprint of each task.
    settings : sequence of mappings
    journal : Journal
        Takes every trial as it ends.
    n_jobs : int, optional
        Processes; -1 for all cores. None: as `joblib.parallel_config` says, or 1. Where that names Dask or Ray, trials are made
        there, unless this is 1.
    seconds : float, optional
        Wall time that one trial (all its folds) may take; a trial that overruns is kept as a failure.
    progress : callable, optional
        Called with the number of trials that are done and of all.

    Returns
    -------
    list of lists of Record
        One a task, in it one a setting.

    Warns
    -----
    UserWarning
        For a trial whose process died each time; it is kept as a failure.
    """
    keys = [settings_key(entry) for entry in settings]
    missing = {
        (row, column)
        for row, name in enumerate(names)
        for column, key in enumerate(keys)
        if (name, key) not in journal.known
    }
    done, total = len(tasks) * len(settings) - len(missing), len(tasks) * len(settings)
    order = sorted(missing)
    where: list[list[tuple[int, int]]] = []
    for cell in order:
        if where and where[-1][0][0] == cell[0] and len(where[-1]) < _AT_ONCE:
            where[-1].append(cell)
        else:
            where.append([cell])
    batches = [Batch(tasks[cells[0][0]], [settings[column] for _, column in cells]) for cells in where]
    if batches:
        for outcome in _outcomes(trials, batches, n_jobs, seconds):
            row, column = where[outcome.batch][outcome.item]
            scores = dict(outcome.value or {})
            took = scores.pop("seconds", outcome.seconds)
            journal.add(names[row], settings[column], Record(scores, took, outcome.failure))
            if outcome.failure == "died":
                warnings.warn(
                    f"Task {tasks[row].name!r} ({len(tasks[row])} rows): the process died three times under the settings "
                    f"{dict(settings[column])}, which count as failed on it; the usual reason is a lack of memory, and max_rows= "
                    "would make tasks smaller.",
                    stacklevel=2,
                )
            done += 1
            if progress is not None:
                progress(done, total)
    return [[journal.known[name, key] for key in keys] for name in names]


def _outcomes(trials: Trials, batches: Sequence[Batch], n_jobs: int | None, seconds: float | None) -> Iterator[Outcome]:
    """Make trials in processes of this machine, or batch by batch on the workers of a cluster."""
    if not on_a_cluster(n_jobs):
        workers = joblib.effective_n_jobs(None) if n_jobs is None else n_jobs if n_jobs != -1 else os.cpu_count() or 1
        yield from run_bounded(trials, batches, workers=max(1, workers), seconds=seconds)
        return
    names = [f"task {batch.data.name!r}" for batch in batches]
    for number, found in run_fits(_OnWorker(trials, seconds), batches, names=names, n_jobs=n_jobs):
        yield from (replace(outcome, batch=number) for outcome in found)


@dataclass(frozen=True)
class _OnWorker:
    """Makes the trials of a batch on a worker: in it, or in a process of its own that can be ended."""

    trials: Trials
    seconds: float | None

    def __call__(self, batch: Batch) -> list[Outcome]:
        if self.seconds is not None:
            return list(run_bounded(self.trials, [batch], seconds=self.seconds))
        with threadpool_limits(limits=1):
            return run_here(self.trials, batch)


def distinct(tasks: Sequence[Task]) -> list[str]:
    """Return the fingerprint of each task.

    Raises
    ------
    TaskError
        If two tasks hold the same data.
    """
    first: dict[str, str] = {}
    for task in tasks:
        name = fingerprint(task.X, task.y)
        if name in first:
            raise TaskError(
                f"Task {task.name!r} ({len(task)} rows) holds the same data as task {first[name]!r}; a data set must stand "
                "once, or it would be judged by itself: leave one out."
            )
        first[name] = task.name
    return list(first)


def tabulated(
    records: Sequence[Sequence[Record]],
    tasks: Sequence[Task],
    names: Sequence[str],
    groups: Sequence[str],
    settings: Sequence[Settings],
    *,
    measure: str | None,
    with_landmarks: bool | int,
) -> Experience:
    """Make a table of trials, with a description of every task.

    Parameters
    ----------
    records : sequence of sequences of Record
        What `fill` returned for ``tasks`` and ``settings``.
    tasks, names, groups, settings
    measure : str, optional
        Which score counts; the first that was measured when not given.
    with_landmarks : bool or int

    Raises
    ------
    TaskError
        For a task on which every setting failed.
    PriorMismatchError
        If ``measure`` was not measured.
    """
    for task, row in zip(tasks, records, strict=True):
        failures = [record.failure for record in row if record.failure]
        if len(failures) == len(row):
            raise TaskError(
                f"Task {task.name!r} ({len(task)} rows): every setting failed, the first with '{failures[0]}'; leave the task out, "
                "or give more time with max_seconds=."
            )
    kind = tasks[0].kind
    assert kind is not None

    def table(name: str) -> np.ndarray:
        found = np.array([[record.scores.get(name, np.nan) for record in row] for row in records])
        return np.where(np.isfinite(found), found, -np.inf)

    scores = {name: found for name in SCORES[kind] if np.isfinite(found := table(name)).any()}
    if measure is not None and measure not in scores:
        raise PriorMismatchError(
            f"measure={measure!r} is none of what this estimator can be scored by on these tasks: {', '.join(scores)}; "
            "choose one of them."
        )
    return Experience(
        settings,
        [task.name for task in tasks],
        scores,
        groups,
        names,
        np.stack([describe(task.X, task.y, kind, with_landmarks=with_landmarks) for task in tasks]),
        [[np.nan if record.failure else record.seconds for record in row] for row in records],
        measure or next(iter(scores)),
    )
