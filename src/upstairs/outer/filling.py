"""Fill a table of experience: every setting on every task, in parallel, each trial bounded, none made twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from upstairs.outer.journal import Journal, Record, settings_key
from upstairs.outer.trials import Settings, Trials
from upstairs.outer.workers import Batch, run_bounded
from upstairs.tasks.task import Task

__all__ = ["fill"]

_AT_ONCE = 8
"""Trials that go to a process together with their data, so that processes end at about the same time."""


def fill(
    trials: Trials,
    tasks: Sequence[Task],
    names: Sequence[str],
    settings: Sequence[Settings],
    journal: Journal,
    *,
    workers: int = 1,
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
    workers : int
        Processes.
    seconds : float, optional
        Wall time that one trial (all its folds) may take; a trial that overruns is kept as a failure.
    progress : callable, optional
        Called with the number of trials that are done and of all.

    Returns
    -------
    list of lists of Record
        One a task, in it one a setting.
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
        for outcome in run_bounded(trials, batches, workers=workers, seconds=seconds):
            row, column = where[outcome.batch][outcome.item]
            scores = dict(outcome.value or {})
            took = scores.pop("seconds", outcome.seconds)
            journal.add(names[row], settings[column], Record(scores, took, outcome.failure))
            done += 1
            if progress is not None:
                progress(done, total)
    return [[journal.known[name, key] for key in keys] for name in names]
