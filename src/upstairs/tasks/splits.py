"""Draws with NumPy generators: support and query rows, episodes, folds, one independent stream for every task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Shaped

from upstairs.errors import TaskError

__all__ = ["Episode", "Range", "class_members", "draw_episode", "folds", "split_support_query", "task_streams"]

Range: TypeAlias = int | tuple[int, int]
"""A number, or the lowest and highest number that may be drawn (both included)."""


@dataclass(frozen=True, slots=True)
class Episode:
    """Rows of one N-way K-shot episode, class after class, and the class number 0 to way-1 of every row."""

    classes: Shaped[np.ndarray, " way"]
    support: Shaped[np.ndarray, " row"]
    support_way: Shaped[np.ndarray, " row"]
    query: Shaped[np.ndarray, " query"]
    query_way: Shaped[np.ndarray, " query"]


def split_support_query(
    task_y: Shaped[np.ndarray, " all"],
    kind: str,
    labels: str | None,
    shots: Range,
    queries: int | None,
    rng: np.random.Generator,
    ways: Range | None = None,
    order: Shaped[np.ndarray, " all"] | None = None,
    *,
    name: str = "task",
) -> tuple[Shaped[np.ndarray, " row"], Shaped[np.ndarray, " query"]]:
    """Divide the rows of one task into support and query.

    Regression and shared labels: ``shots`` rows in all. Own labels: N-way K-shot, as `draw_episode`. The rows are
    random, or with ``order`` the support comes first in that order and the query after it.

    Parameters
    ----------
    task_y : array of shape (all,)
        Targets or labels of all rows.
    kind, labels : str
        As in `Task` and `TaskSet`.
    shots, ways : int or (low, high)
        Support rows (a class, for own labels) and, for own labels, classes; a range is drawn, never beyond what the
        task has. ``ways=None``: all classes.
    queries : int or None
        Most query rows (a class, for own labels); None: all that remain.
    rng : numpy.random.Generator
    order : array of shape (all,), optional
        Sorts the rows (a time); ties keep their place.
    name : str
        Names the task in an error.

    Raises
    ------
    TaskError
        If the task has not ``shots`` rows and one query row (or ``ways`` classes that do).

    Examples
    --------
    >>> y = np.arange(6.0)
    >>> support, query = split_support_query(y, "regression", None, 2, None, np.random.default_rng(0), order=-y)
    >>> support.tolist(), query.tolist()
    ([5, 4], [3, 2, 1, 0])
    """
    if labels == "own" and kind == "classification":
        _, members = class_members(task_y)
        draw = draw_episode(members, ways, shots, queries, rng, order=order, name=name)
        return draw.support, draw.query
    if ways is not None:
        raise TaskError(f"Task {name!r}: ways={ways} has a meaning only for classes of the task's own; leave it out.")
    return _divide(np.arange(len(task_y)), shots, queries, rng, order, f"Task {name!r}")


def draw_episode(
    members: Sequence[np.ndarray],
    ways: Range | None,
    shots: Range,
    queries: int | None,
    rng: np.random.Generator,
    *,
    order: Shaped[np.ndarray, " all"] | None = None,
    name: str = "pool",
) -> Episode:
    """Draw one N-way K-shot episode from the rows of each class (see `class_members`).

    Ranges of ``shots`` are drawn for each class. With ``ways`` given, classes with too few rows are passed over; with
    ``ways=None`` (all classes) they are an error. Other arguments and errors are those of `split_support_query`.

    Examples
    --------
    >>> classes, members = class_members(np.repeat(["a", "b", "c"], 4))
    >>> episode = draw_episode(members, ways=2, shots=1, queries=2, rng=np.random.default_rng(0))
    >>> episode.support_way.tolist(), episode.query_way.tolist()
    ([0, 1], [0, 0, 1, 1])
    """
    need = _bounds("shots", shots)[0] + (queries != 0)
    usable = np.array([number for number, rows in enumerate(members) if len(rows) >= need], dtype=int)
    low, high = (len(members), len(members)) if ways is None else _bounds("ways", ways)
    if len(usable) < max(low, 1):
        raise TaskError(
            f"Task {name!r} ({sum(map(len, members))} rows, {len(members)} classes): shots={shots}, ways={ways} need "
            f"{max(low, 1)} classes of at least {need} rows, but {len(usable)} are that large (the smallest has "
            f"{min(map(len, members), default=0)}); ask for fewer shots or ways, or drop the task or its small classes."
        )
    n_ways = int(rng.integers(low, min(high, len(usable)) + 1))
    chosen = rng.permutation(usable)[:n_ways]
    parts = [_divide(members[number], shots, queries, rng, order, f"Task {name!r}") for number in chosen]
    support, query = ([part[side] for part in parts] for side in (0, 1))
    support_way, query_way = (np.repeat(np.arange(n_ways), [len(rows) for rows in side]) for side in (support, query))
    return Episode(chosen, np.concatenate(support), support_way, np.concatenate(query), query_way)


def class_members(labels: Shaped[np.ndarray, " row"]) -> tuple[Shaped[np.ndarray, " class"], list[np.ndarray]]:
    """Return the sorted classes and the row numbers of each."""
    classes, codes = np.unique(labels, return_inverse=True)
    return classes, np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def folds(groups: Sequence[str], n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide tasks into folds that leave whole groups out.

    Groups are shuffled from their sorted order, then the largest goes to the emptiest fold, and so on: folds are
    even in number of tasks, and the same whatever order the tasks come in.

    Parameters
    ----------
    groups : sequence of str
        Group of each task (``TaskSet.groups``), or its name where there are no groups.
    n_folds : int
        From 2 to the number of groups.
    seed : int

    Returns
    -------
    list of (train, test)
        Task numbers, ascending; every task is in one test part.

    Raises
    ------
    TaskError
        If there are fewer groups than folds.

    Examples
    --------
    >>> [test.tolist() for _, test in folds(["a", "b", "a", "c"], n_folds=3, seed=0)]
    [[0, 2], [3], [1]]
    """
    names, codes, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    if not 2 <= n_folds <= len(names):
        raise TaskError(
            f"n_folds={n_folds} must lie between 2 and the number of groups, {len(names)} (in {len(codes)} tasks); "
            "ask for fewer folds or bring more groups."
        )
    shuffled_groups = np.random.default_rng(seed).permutation(len(names))
    fold_of, filled = np.zeros(len(names), dtype=int), np.zeros(n_folds, dtype=int)
    for number in shuffled_groups[np.argsort(-sizes[shuffled_groups], kind="stable")]:
        fold_of[number] = np.argmin(filled)
        filled[fold_of[number]] += sizes[number]
    task_fold = fold_of[codes]
    return [(np.flatnonzero(task_fold != fold), np.flatnonzero(task_fold == fold)) for fold in range(n_folds)]


def task_streams(random_state: Any, names: Sequence[str]) -> dict[str, np.random.Generator]:
    """Return one independent generator for every task name, whatever the order or number of tasks.

    Parameters
    ----------
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState
        None draws fresh entropy; a generator gives one number and moves on.
    names : sequence of str

    Examples
    --------
    >>> one, other = task_streams(0, ["a", "b"]), task_streams(0, ["b"])
    >>> bool(one["b"].random() == other["b"].random())
    True
    """
    if isinstance(random_state, np.random.Generator):
        entropy: Any = int(random_state.integers(2**63))
    elif isinstance(random_state, np.random.RandomState):
        entropy = int(random_state.randint(2**31))
    else:
        entropy = np.random.SeedSequence(random_state).entropy

    def stream(name: str) -> np.random.Generator:
        key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u4")
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=tuple(key.tolist())))

    return {name: stream(name) for name in names}


def _bounds(argument: str, value: Range) -> tuple[int, int]:
    low, high = value if isinstance(value, tuple) else (value, value)
    if not 0 <= low <= high:
        raise TaskError(f"{argument}={value!r} must be a number of at least 0, or a pair (low, high) with low <= high.")
    return int(low), int(high)


def _divide(
    rows: np.ndarray, shots: Range, queries: int | None, rng: np.random.Generator, order: np.ndarray | None, who: str
) -> tuple[np.ndarray, np.ndarray]:
    low, high = _bounds("shots", shots)
    most = len(rows) - (queries != 0)
    if low > most:
        need = low + (queries != 0)
        raise TaskError(
            f"{who} ({len(rows)} rows): shots={shots} needs at least {need} rows, support and query together; "
            f"ask for fewer shots, or drop small tasks with tasks.filter(min_rows={need})."
        )
    n_support = int(rng.integers(low, min(high, most) + 1))
    rows = rng.permutation(rows) if order is None else rows[np.argsort(np.asarray(order)[rows], kind="stable")]
    return rows[:n_support], rows[n_support:] if queries is None else rows[n_support : n_support + queries]
