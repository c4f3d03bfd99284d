"""One task: rows, targets and a name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np

from upstairs.errors import TaskError
from upstairs.tasks.table import Table, as_columns

__all__ = ["Kind", "Labels", "LazyTask", "Task", "infer_kind"]

Kind: TypeAlias = Literal["regression", "classification"]
Labels: TypeAlias = Literal["shared", "own"]


def infer_kind(y: np.ndarray) -> Kind:
    """Text, truth values and targets of at most two distinct values are classes; other numbers are a regression.

    Examples
    --------
    >>> infer_kind(np.array(["a", "b"])), infer_kind(np.array([0, 1, 1])), infer_kind(np.array([1, 2, 3]))
    ('classification', 'classification', 'regression')
    """
    if y.dtype.kind not in "fiu":
        return "classification"
    return "classification" if len(np.unique(y)) <= 2 else "regression"


@final
@dataclass(frozen=True, eq=False)
class Task:
    """One data set: rows, their targets, and a name.

    Parameters
    ----------
    X : array of shape (row, feature), or a data frame
        Arrays hold numbers (NaN is a missing cell); frames of pandas, polars or pyarrow become a `Table`.
    y : array of shape (row,)
        Targets (regression) or labels (classification); never missing.
    name : str
        Names the task in every message and every result.
    kind : {"regression", "classification"}, optional
        Inferred with `infer_kind` when not given.
    group : str, optional
        What the task belongs to (clinic, alphabet, source); splits and folds keep a group together.

    Raises
    ------
    TaskError
        If rows and targets differ in number, there is no row, or a target is missing or infinite.

    Examples
    --------
    >>> task = Task(np.ones((3, 2)), np.array([.1, .2, .3]), name="site_07")
    >>> task
    Task('site_07', 3 rows, 2 columns, regression)
    """

    X: Any
    y: Any
    name: str
    kind: Kind | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", str(self.name))
        if self.group is not None:
            object.__setattr__(self, "group", str(self.group))
        try:
            object.__setattr__(self, "X", as_columns(self.X))
        except TaskError as error:
            raise TaskError(f"Task {self.name!r}: {error}") from None
        y = np.asarray(self.y)
        if y.ndim != 1:
            raise TaskError(
                f"Task {self.name!r}: y must have one dimension (row,), but has shape {y.shape}; "
                "for several targets make one task of each (target=[...] in the readers)."
            )
        if len(y) != len(self.X):
            raise TaskError(
                f"Task {self.name!r}: X has {len(self.X)} rows and y has {len(y)}; they must be the same rows."
            )
        if len(y) == 0:
            raise TaskError(f"Task {self.name!r} (0 rows): a task needs at least one row; leave it out.")
        if self.kind not in (None, "regression", "classification"):
            raise TaskError(
                f"Task {self.name!r}: kind must be 'regression', 'classification' or None, but is {self.kind!r}."
            )
        kind = self.kind or infer_kind(y)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "y", _checked_target(self.name, y, kind))

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {len(self)} rows, {self.X.shape[1]} columns, {self.kind})"

    @functools.cached_property
    def classes(self) -> tuple[Any, ...]:
        """Labels that occur, sorted; empty for a regression."""
        return tuple(np.unique(self.y).tolist()) if self.kind == "classification" else ()

    @property
    def columns(self) -> tuple[str, ...] | int:
        """Column names, or for arrays their number."""
        return self.X.names if isinstance(self.X, Table) else self.X.shape[1]

    def take(self, rows: Any) -> Task:
        """Return the task made of some of its rows."""
        part = object.__new__(Task)
        X = self.X.take(rows) if isinstance(self.X, Table) else self.X[rows]
        fields = {"X": X, "y": self.y[rows], "name": self.name, "kind": self.kind, "group": self.group}
        part.__dict__.update(fields)
        return part

    def load(self) -> Task:
        """Return itself: a task in memory (see `LazyTask`)."""
        return self


@final
@dataclass(frozen=True, eq=False)
class LazyTask:
    """A task that is read when it is looked at; what is known without reading stands here."""

    name: str
    rows: int
    kind: Kind
    classes: tuple[Any, ...]
    columns: tuple[str, ...] | int
    read: Callable[[], Task]
    group: str | None = None

    def __len__(self) -> int:
        return self.rows

    def load(self) -> Task:
        """Read the task."""
        return self.read()


def _checked_target(name: str, y: np.ndarray, kind: Kind) -> np.ndarray:
    remedy = "drop these rows or fill them in first"
    if kind == "regression":
        try:
            y = y.astype(np.float64)
        except (TypeError, ValueError):
            raise TaskError(
                f"Task {name!r} ({len(y)} rows): the target of a regression must be numbers, not text."
            ) from None
        bad = ~np.isfinite(y)
    elif y.dtype.kind == "f":
        bad = ~np.isfinite(y)
        if not bad.any() and np.all(y == np.round(y)):
            y = y.astype(np.int64)
    elif y.dtype == object:
        bad = np.array([value is None or value != value for value in y], dtype=bool)
        if not bad.any() and len({type(value) for value in y}) > 1:
            y = y.astype(str)
        elif not bad.any():
            y = np.array(y.tolist())
    else:
        bad = np.zeros(len(y), dtype=bool)
    if bad.any():
        rows = np.flatnonzero(bad)
        raise TaskError(
            f"Task {name!r} ({len(y)} rows): the target is missing or infinite in {len(rows)} rows (first: row {rows[0]}); {remedy}."
        )
    return y
