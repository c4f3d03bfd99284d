"""How tasks come in: the readers of a `TaskSet`, and the store that they can be kept in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from upstairs.tasks.task import Kind, Labels

if TYPE_CHECKING:
    from upstairs.tasks.taskset import TaskSet

__all__ = ["TaskReaders"]


class TaskReaders:
    """The doors of `upstairs.tasks.TaskSet`; never instantiated itself."""

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
        >>> from upstairs.tasks import TaskSet
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
        >>> from upstairs.tasks import TaskSet
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
        >>> import numpy as np
        >>> from upstairs.tasks import TaskSet
        >>> X = np.arange(6.0).reshape(3, 2)
        >>> TaskSet.from_arrays([X, X[:2]], [np.array([.1, .2, .3]), np.array([.4, .5])])
        TaskSet(2 tasks, 5 rows, regression)
        >>> TaskSet.from_arrays(X, np.array([[0, 1], [1, np.nan], [1, 0]])).rows
        array([3, 2])
        """
        from upstairs.tasks.readers import from_arrays

        return from_arrays(Xs, ys, names=names, groups=groups, kind=kind, labels=labels)

    @classmethod
    def from_store(cls, path: str | os.PathLike[str], *, damaged: Literal["raise", "skip"] = "raise") -> TaskSet:
        """Open a store that `to_store` wrote; a task is read when it is looked at, and a few row groups are kept.

        Parameters
        ----------
        path : path-like
            A folder, or an address that fsspec knows (``s3://...``, ``memory://...``).
        damaged : {"raise", "skip"}
            "skip": read every file now, and leave out the tasks of those that are damaged or gone, with a warning.

        Raises
        ------
        StorageError
            If there is no store, one of another version, or a file of it is damaged or gone.
        MissingExtraError
            For an address without fsspec.
        """
        from upstairs.tasks.store import from_store

        return from_store(path, damaged=damaged)

    def to_store(
        self,
        path: str | os.PathLike[str],
        *,
        append: bool = False,
        precision: str = "float64",
    ) -> None:
        """Write the tasks into a store: Parquet files with the rows of one task after another, and an index.

        `upstairs.tasks.write_store` does the same with a generator of tasks that do not fit into memory.

        Parameters
        ----------
        path : path-like
            A new or empty folder, or an address that fsspec knows; with ``append`` a store.
        append : bool
            Add to the tasks that are there; a kill leaves the store as it was or with all of the new ones.
        precision : {"float64", "float32"}
            Of numbers on the disk. Single precision takes half the space, and rounds.

        Raises
        ------
        TaskError
            If a name stands twice, or the tasks are of another kind than those that are there.
        StorageError
            If the folder holds something else, or cannot be written.

        Examples
        --------
        >>> import tempfile, upstairs as up
        >>> tasks = up.tasks.synthetic.SharedSubspace().sample(50, 20, random_state=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tasks.to_store(f"{folder}/tasks")
        ...     again = up.TaskSet.from_store(f"{folder}/tasks")
        ...     again, bool((again[7].X == tasks[7].X).all())
        (TaskSet(50 tasks, 1000 rows, regression), True)
        """
        from upstairs.tasks.store_write import write_store

        write_store(path, self, append=append, precision=precision)  # type: ignore[arg-type]
