"""A set of tasks: what every learner upstairs is given."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final, overload

import numpy as np
from jaxtyping import Int

from upstairs.errors import TaskError
from upstairs.tasks.task import Kind, Labels, LazyTask, Task

__all__ = ["TaskSet", "check_disjoint"]


@final
class TaskSet(Sequence[Task]):
    """Related tasks of one kind, read lazily where their reader allows it.

    Parameters
    ----------
    tasks : sequence of Task or LazyTask
        Names must be unique and kinds equal.
    labels : {"shared", "own"}, optional
        For classification. "shared": a label means the same in every task (active, inactive). "own": each task
        has classes of its own (characters of an alphabet). Inferred when not given: shared if some task shows
        every label that occurs.

    Raises
    ------
    TaskError
        For no task, mixed kinds, a name that stands twice, or a task with own labels and a single class.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> tasks = TaskSet([Task(rng.normal(size=(5, 2)), rng.normal(size=5), name=f"t{i}") for i in range(8)])
    >>> tasks
    TaskSet(8 tasks, 40 rows, regression)
    >>> train, valid, test = tasks.split(valid=0.25, test=0.25, random_state=0)
    >>> len(train), len(valid), len(test)
    (4, 2, 2)
    >>> len(tasks.filter(min_rows=6))
    0
    """

    def __init__(self, tasks: Iterable[Task | LazyTask], *, labels: Labels | None = None) -> None:
        self._entries: tuple[Task | LazyTask, ...] = tuple(tasks)
        kinds = {entry.kind for entry in self._entries}
        if len(kinds) > 1:
            odd = {
                kind: next(entry.name for entry in self._entries if entry.kind == kind)
                for kind in sorted(kinds, key=str)
            }
            raise TaskError(
                f"Tasks must be of one kind, but these are mixed: {', '.join(f'{name!r} is a {kind}' for kind, name in odd.items())}; "
                "pass kind= to say which is meant, or split them into two sets."
            )
        names = [entry.name for entry in self._entries]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise TaskError(
                f"Task names must be unique, but {twice[0]!r} stands {names.count(twice[0])} times; rename the tasks."
            )
        if labels not in (None, "shared", "own"):
            raise TaskError(f"labels must be 'shared', 'own' or None, but is {labels!r}.")
        self.kind: Kind | None = next(iter(kinds)) if kinds else None
        self.labels: Labels | None = None
        if self.kind == "classification":
            self.labels = labels or _infer_labels(self._entries)
        if self.labels == "own":
            single = [entry for entry in self._entries if len(entry.classes) < 2]
            if single:
                raise TaskError(
                    f"Task {single[0].name!r} ({len(single[0])} rows, {len(single[0].classes)} class): a task with labels "
                    f"of its own needs 2 classes ({len(single)} such tasks); leave them out, or say labels='shared'."
                )

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> TaskSet: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._sub(self._entries[index])
        if isinstance(index, Sequence | np.ndarray) and not isinstance(index, str):
            if np.asarray(index).dtype == bool:
                index = self._from_mask(np.asarray(index))
            return self._sub([self._entries[int(i)] for i in index])
        if isinstance(index, str):
            raise TaskError(f"Tasks are found by number; for the name {index!r} use tasks.named({index!r}).")
        return self._entries[index].load()

    def __iter__(self) -> Iterator[Task]:
        for entry in self._entries:
            yield entry.load()

    def __repr__(self) -> str:
        labels = f", {self.labels} labels" if self.labels else ""
        return f"TaskSet({len(self)} tasks, {sum(self.rows)} rows, {self.kind}{labels})"

    @property
    def names(self) -> tuple[str, ...]:
        """Task names, in order."""
        return tuple(entry.name for entry in self._entries)

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the group of each task; a task without one is a group of its own."""
        return tuple(entry.group if entry.group is not None else f"task:{entry.name}" for entry in self._entries)

    @property
    def rows(self) -> Int[np.ndarray, " task"]:
        """Rows of each task."""
        return np.array([len(entry) for entry in self._entries], dtype=np.int64)

    @functools.cached_property
    def classes(self) -> tuple[Any, ...]:
        """All labels that occur in any task, sorted; empty for a regression."""
        return _union(self._entries)

    def named(self, name: str) -> Task:
        """Return the task of that name.

        Raises
        ------
        TaskError
            If there is none.
        """
        for entry in self._entries:
            if entry.name == name:
                return entry.load()
        raise TaskError(
            f"There is no task {name!r} among {len(self)}; the first are {', '.join(map(repr, self.names[:5]))}."
        )

    def canonical(self) -> TaskSet:
        """Return the same tasks in the order of their names, so that no result depends on the order they came in."""
        return self._sub(sorted(self._entries, key=lambda entry: entry.name))

    def filter(
        self,
        predicate: Callable[[Task], bool] | None = None,
        *,
        min_rows: int = 1,
        max_rows: int | None = None,
        min_classes: int = 0,
    ) -> TaskSet:
        """Keep tasks by size, by number of classes, or by any question that a function answers."""
        kept = [
            entry
            for entry in self._entries
            if len(entry) >= min_rows
            and (max_rows is None or len(entry) <= max_rows)
            and (min_classes == 0 or len(entry.classes) >= min_classes)
            and (predicate is None or predicate(entry.load()))
        ]
        return self._sub(kept)

    def map(self, function: Callable[[Task], Task]) -> TaskSet:
        """Apply a function to every task now; names and groups may change, the kind may not become mixed."""
        return TaskSet([function(task) for task in self], labels=self.labels)

    def split(
        self, *, valid: float = 0.2, test: float = 0.2, random_state: int | None = None
    ) -> tuple[TaskSet, TaskSet, TaskSet]:
        """Split into training, validation and test tasks, by group where groups were given, never by row.

        Parameters
        ----------
        valid, test : float
            Shares of the groups, each rounded to whole groups (at least one if the share is not zero).
        random_state : int, optional
            The same number gives the same split, whatever order the tasks came in.

        Raises
        ------
        TaskError
            If nothing would be left to train on.
        """
        groups = np.array(self.groups, dtype=object)
        unique = np.array(sorted(set(groups)), dtype=object)
        order = np.random.default_rng(random_state).permutation(len(unique))
        n_test, n_valid = (max(1, round(share * len(unique))) if share > 0 else 0 for share in (test, valid))
        if not 0 <= valid < 1 or not 0 <= test < 1 or n_test + n_valid >= len(unique):
            raise TaskError(
                f"split(valid={valid}, test={test}) leaves no training task: there are {len(unique)} groups in {len(self)} "
                "tasks; ask for smaller shares or bring more tasks."
            )
        parts = (unique[order[n_test + n_valid :]], unique[order[n_test : n_test + n_valid]], unique[order[:n_test]])
        train, validation, held_out = (self[np.flatnonzero(np.isin(groups, part))] for part in parts)
        return train, validation, held_out

    def describe(self) -> dict[str, Any]:
        """Numbers about the set: tasks, rows, columns, classes, groups."""
        rows = self.rows
        summary: dict[str, Any] = {
            "tasks": len(self),
            "groups": len(set(self.groups)),
            "kind": self.kind,
            "rows": int(rows.sum()),
            "rows_min": int(rows.min()) if len(rows) else 0,
            "rows_median": float(np.median(rows)) if len(rows) else 0.0,
            "rows_max": int(rows.max(initial=0)),
            "same_columns": len({_column_set(entry.columns) for entry in self._entries}) <= 1,
        }
        if self.kind == "classification":
            summary |= {"labels": self.labels, "classes": len(self.classes)}
        return summary

    def _from_mask(self, mask: np.ndarray) -> np.ndarray:
        if mask.shape != (len(self),):
            raise TaskError(f"A mask needs one truth value a task, {len(self)} in all, but has shape {mask.shape}.")
        return np.flatnonzero(mask)

    def _sub(self, entries: Iterable[Task | LazyTask]) -> TaskSet:
        part = object.__new__(TaskSet)
        part._entries, part.kind, part.labels = tuple(entries), self.kind, self.labels
        return part

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        task: str | None,
        target: str | Sequence[str],
        group: str | None = None,
        kind: Kind | None = None,
        categorical: Sequence[str] = (),
        labels: Labels | None = None,
        order: str | None = None,
        drop: Sequence[str] = (),
    ) -> TaskSet:
        """Read a data frame that holds the rows of all tasks.

        Parameters
        ----------
        frame : data frame
            Of pandas, polars (also a LazyFrame) or pyarrow. Rows of a task need not stand together.
        task : str or None
            The column that names the task of a row. None: every row belongs to every target.
        target : str or list of str
            One target column, without missing cells; or a list: one task for each (task, column), named
            ``task/column`` (``column`` if ``task=None``), made of the rows where that column is present.
        group : str, optional
            A column that is constant inside a task; splits keep a group together.
        kind : {"regression", "classification"}, optional
            Inferred with `infer_kind` on the whole column; the same for all tasks.
        categorical : sequence of str
            Number columns that are identifiers and become categories.
        labels : {"shared", "own"}, optional
            Shared when not given: a label of a target column means the same in every task.
        order : str, optional
            A column by which the rows of a task are sorted; it stays a feature unless in ``drop``.
        drop : sequence of str
            Columns that are not features; the task, target and group columns never are.

        Raises
        ------
        TaskError
            For a column that is absent or stands twice, rows without a task name, missing or infinite targets, a group
            that changes inside a task, or text in a number column; lists every bad task.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"site": ["b", "a", "b"], "age": [30, 40, 50], "dose": [1.5, 2.5, 3.5]})
        >>> tasks = TaskSet.from_frame(frame, task="site", target="dose")
        >>> tasks
        TaskSet(2 tasks, 3 rows, regression)
        >>> tasks.named("b").X.column("age")
        array([30., 50.])
        """
        from upstairs.tasks.readers import from_frame

        return from_frame(
            frame,
            task=task,
            target=target,
            group=group,
            kind=kind,
            categorical=categorical,
            labels=labels,
            order=order,
            drop=drop,
        )

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        *,
        target: str,
        group: str | Mapping[str, str] | None = None,
        kind: Kind | None = None,
        categorical: Sequence[str] = (),
        labels: Labels | None = None,
        pattern: str = "*",
        drop: Sequence[str] = (),
    ) -> TaskSet:
        """Read a folder with one CSV, TSV (also ``.gz``) or Parquet file a task, named by the file's stem.

        Every file is read and checked once now, and again whenever its task is looked at; only the last one is kept.
        In CSV and TSV an empty cell is missing and nothing else is.

        Parameters
        ----------
        path : str or path
            The folder.
        target : str
            The target column of every file.
        group : str or mapping, optional
            A column that is constant inside a file, a mapping from task names to groups, or ``":folder:"``: the
            subfolder of ``path`` that a file lies in.
        kind : {"regression", "classification"}, optional
            Inferred on the targets of all files together; the same for all tasks.
        categorical : sequence of str
            Number columns that are identifiers and become categories.
        labels : {"shared", "own"}, optional
            Shared when not given: a label of a target column means the same in every task.
        pattern : str
            Which files, as in `pathlib.Path.glob`; ``"**/*"`` looks into subfolders.
        drop : sequence of str
            Columns that are not features.

        Raises
        ------
        TaskError
            If there is no file, or listing every file that is damaged or breaks a rule; later, if a file has changed.

        Examples
        --------
        >>> import tempfile
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"x": [0.1, 0.2], "active": ["yes", "no"]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("first", "second"):
        ...         frame.to_csv(f"{folder}/{name}.csv", index=False)
        ...     tasks = TaskSet.from_folder(folder, target="active")
        ...     tasks, tasks[1]
        (TaskSet(2 tasks, 4 rows, classification, shared labels), Task('second', 2 rows, 1 columns, classification))
        """
        from upstairs.tasks.readers import from_folder

        return from_folder(
            path,
            target=target,
            group=group,
            kind=kind,
            categorical=categorical,
            labels=labels,
            pattern=pattern,
            drop=drop,
        )

    @classmethod
    def from_arrays(
        cls,
        Xs: Any,
        ys: Any,
        *,
        names: Sequence[str] | None = None,
        groups: Sequence[str | None] | None = None,
        kind: Kind | None = None,
        labels: Labels | None = None,
    ) -> TaskSet:
        """Read one X and one y a task, or one X with a column of targets a task.

        Parameters
        ----------
        Xs : sequence of arrays of shape (row, feature), or one such array
            Frames are taken as well.
        ys : sequence of arrays of shape (row,), or one array of shape (row, task)
            In the second form NaN is a target that was not measured; such rows are left out of that task.
        names : sequence of str, optional
            One a task; numbered when not given.
        groups : sequence of str, optional
            One a task.
        kind : {"regression", "classification"}, optional
            Inferred on the targets of all tasks together.
        labels : {"shared", "own"}, optional
            Inferred when not given (see the class).

        Raises
        ------
        TaskError
            If counts differ, or listing every task that breaks a rule.

        Examples
        --------
        >>> X = np.arange(6.0).reshape(3, 2)
        >>> TaskSet.from_arrays([X, X[:2]], [np.array([.1, .2, .3]), np.array([.4, .5])])
        TaskSet(2 tasks, 5 rows, regression)
        >>> TaskSet.from_arrays(X, np.array([[0, 1], [1, np.nan], [1, 0]])).rows
        array([3, 2])
        """
        from upstairs.tasks.readers import from_arrays

        return from_arrays(Xs, ys, names=names, groups=groups, kind=kind, labels=labels)


def check_disjoint(**parts: TaskSet) -> None:
    """Raise if a task or a group stands in two hand-made parts of a split.

    Raises
    ------
    TaskError
        Naming the group (or task) and the two parts.
    """
    seen: dict[str, str] = {}
    for part, tasks in parts.items():
        for group in sorted(set(tasks.groups)):
            if seen.setdefault(group, part) != part:
                what = f"Task {group[5:]!r}" if group.startswith("task:") else f"Group {group!r}"
                raise TaskError(
                    f"{what} stands in {seen[group]} and in {part}; tasks of one group must be on one side: "
                    "use tasks.split(...), or move the group."
                )


def _infer_labels(entries: Sequence[Task | LazyTask]) -> Labels:
    everything = len(_union(entries))
    return "shared" if max((len(entry.classes) for entry in entries), default=0) == everything else "own"


def _union(entries: Sequence[Task | LazyTask]) -> tuple[Any, ...]:
    found = {label for entry in entries for label in entry.classes}
    try:
        return tuple(sorted(found))
    except TypeError:
        return tuple(sorted(found, key=str))


def _column_set(columns: tuple[str, ...] | int) -> Any:
    return columns if isinstance(columns, int) else frozenset(columns)
