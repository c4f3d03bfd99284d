"""Trials that differ from task to task, brought to common settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.outer.journal import settings_key
from upstairs.outer.surrogate import coordinates
from upstairs.tasks.table import Table

__all__ = ["gathered"]

_TREES = 100


def gathered(
    trials: Any, task: str, score: str, settings: Sequence[str] | None, candidates: int, seed: int
) -> tuple[list[str], list[dict[str, Any]], Float[np.ndarray, "task setting"]]:
    """Predict every task's score at settings drawn from all trials.

    Returns
    -------
    names : list of str
        Tasks, sorted.
    settings : list of dict
    scores : array of shape (task, setting)

    Raises
    ------
    TaskError
        For a missing column, or a score that is missing.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    frame = Table.from_frame(trials)
    taken = [name for name in frame.names if name not in (task, score)] if settings is None else list(settings)
    columns = {name: frame.column(name) for name in (task, score, *taken)}
    values = columns[score].astype(np.float64)
    if not np.isfinite(values).all():
        raise TaskError(f"Column {score!r} must hold finite scores; drop the trials that failed.")
    tried = [
        {name: _plain(columns[name][row]) for name in taken if not _missing(columns[name][row])}
        for row in range(len(frame))
    ]
    first = {settings_key(entry): row for row, entry in reversed(list(enumerate(tried)))}
    rows = np.sort(np.fromiter(first.values(), dtype=np.int64))
    if len(rows) > candidates:
        rows = np.sort(np.random.default_rng(seed).choice(rows, candidates, replace=False))
    places = coordinates(tried)
    owners = columns[task].astype(str)
    names = sorted(set(owners.tolist()))
    table = np.empty((len(names), len(rows)))
    for number, name in enumerate(names):
        own = owners == name
        forest = ExtraTreesRegressor(_TREES, random_state=seed).fit(places[own], values[own])
        table[number] = forest.predict(places[rows])
    return names, [tried[row] for row in rows], table


def _missing(value: Any) -> bool:
    return value is None or bool(value != value)


def _plain(value: Any) -> Any:
    """Whole numbers without a point: a data frame turns a column with holes into floats."""
    if isinstance(value, float | np.floating):
        return int(value) if float(value).is_integer() else float(value)
    return value
