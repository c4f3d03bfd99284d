"""Tasks into a store, one pass, whatever their number: Parquet files with the rows of one task after another, and an index.

``part-*.parquet`` hold rows, ``index-*.parquet`` one line a task, and ``store.json`` names the files that count. It is replaced last, so
that a kill, a full disk or an error in the middle leaves the store as it was before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, final

import numpy as np

from upstairs.errors import StorageError, TaskError
from upstairs.tasks.fingerprint import fingerprints
from upstairs.tasks.store_folder import StoreFolder
from upstairs.tasks.table import Table
from upstairs.tasks.task import Labels, Task

__all__ = ["DESCRIPTION", "TARGET", "VERSION", "read_description", "write_store"]

VERSION = 1
DESCRIPTION = "store.json"
TARGET = "\0target"
"""Name of the target column; no column of a task can have it."""
GROUP_ROWS = 100_000
"""Rows that are written, and later read, in one go (a row group of Parquet), at least one task."""
PART_ROWS = 4_000_000
"""Rows of a file."""
OPEN_PARTS = 16
"""Files that grow at once, when tasks with different columns come in turn."""


def write_store(
    path: str | os.PathLike[str],
    tasks: Iterable[Any],
    *,
    append: bool = False,
    labels: Labels | None = None,
    precision: str = "float64",
) -> None:
    """Write tasks as they come into a store, of which only a few hundred thousand rows are in memory at a time.

    Parameters
    ----------
    path : path-like
        A new or empty folder, or any address that fsspec knows; with ``append`` a store.
    tasks : iterable of Task
        A `TaskSet`, or a generator. Tasks may have different columns.
    append : bool
        Add to the tasks that are there.
    labels : {"shared", "own"}, optional
        For classification. By default those of the task set; "shared" for a generator.
    precision : {"float64", "float32"}
        Of numbers on the disk. Single precision takes half the space, and rounds.

    Raises
    ------
    TaskError
        For no task, mixed kinds or types of labels, or a name that stands twice.
    StorageError
        If the folder holds something else, or cannot be written; the store is then as it was.

    Examples
    --------
    >>> import tempfile
    >>> from upstairs.tasks import TaskSet
    >>> tasks = (Task(np.full((3, 2), float(n)), np.arange(3.0), name=f"t{n}") for n in range(1000))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_store(f"{folder}/tasks", tasks)
    ...     TaskSet.from_store(f"{folder}/tasks")
    TaskSet(1000 tasks, 3000 rows, regression)
    """
    if precision not in ("float64", "float32"):
        raise TaskError(f"precision must be 'float64' or 'float32', but is {precision!r}.")
    folder = StoreFolder(path)
    before = _before(folder, append)
    labels = labels or getattr(tasks, "labels", None)
    writer = _Writer(folder, np.dtype(precision), before)
    try:
        for task in tasks:
            writer.add(task)
        writer.finish(labels)
    except OSError as error:
        writer.undo()
        raise StorageError(
            f"store '{folder.address}' must be writable, and writing failed with '{error}'; the store is as it was before: free disk space "
            "or correct the permissions, then write again."
        ) from error
    except BaseException:
        writer.undo()
        raise


def read_description(folder: StoreFolder) -> dict[str, Any]:
    """Read what a store says about itself.

    Raises
    ------
    StorageError
        If there is no store, or one of another version.
    """
    try:
        says = json.loads(folder.read(DESCRIPTION))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"path '{folder.address}' must be a store of tasks, but its {DESCRIPTION} cannot be read ({error}); write it with "
            "tasks.to_store(path)."
        ) from error
    if not isinstance(says, dict) or says.get("upstairs") != "tasks" or says.get("version") != VERSION:
        raise StorageError(
            f"path '{folder.address}' must be a store of tasks in version {VERSION}, but is something else."
        )
    return says


def _before(folder: StoreFolder, append: bool) -> dict[str, Any] | None:
    names = folder.names()
    if append:
        return read_description(folder) if DESCRIPTION in names else None
    if names:
        what = "a store already (append=True adds to it)" if DESCRIPTION in names else "other files"
        raise StorageError(f"path '{folder.address}' must be a new or empty folder, but holds {what}; give another.")
    return None


class _Part:
    """One file that grows: tasks with the same columns, and the types of these."""

    def __init__(self, folder: StoreFolder, number: int, schema: Any) -> None:
        import pyarrow.parquet as pq

        self.name = f"part-{number:06d}-{hashlib.sha256(os.urandom(16)).hexdigest()[:12]}"
        self.schema = schema
        self.index: dict[str, list] = {
            key: [] for key in ("name", "group", "rows", "stretch", "start", "print", "classes")
        }
        self.rows = self.stretches = self.waiting = 0
        self.tasks: list[Task] = []
        self._context = folder.writing(f"{self.name}.parquet")
        self._file = self._context.__enter__()
        self._writer = pq.ParquetWriter(
            self._file, schema, compression="lz4", use_dictionary=_texts(schema), write_page_checksum=True
        )

    def flush(self, precision: np.dtype) -> None:
        """Write the tasks that wait as one row group."""
        if not self.tasks:
            return
        import pyarrow as pa

        X, y, offsets = _stacked(self.tasks)
        columns = list(X.columns) if isinstance(X, Table) else list(X.T)
        cells = [_cells(column, precision) for column in columns]
        self._writer.write_table(pa.table([*cells, pa.array(_list(y))], schema=self.schema), row_group_size=len(y))
        index = self.index
        index["name"] += [task.name for task in self.tasks]
        index["group"] += [task.group for task in self.tasks]
        index["rows"] += np.diff(offsets).tolist()
        index["stretch"] += [self.stretches] * len(self.tasks)
        index["start"] += offsets[:-1].tolist()
        index["print"] += fingerprints(_rounded(X, precision), y, offsets)
        index["classes"] += [list(task.classes) for task in self.tasks]
        self.rows, self.stretches, self.waiting, self.tasks = self.rows + len(y), self.stretches + 1, 0, []

    def close(self, folder: StoreFolder, labels: Any) -> dict[str, Any]:
        """End the file, write its index, and say what it holds."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._writer.close()
        self._context.__exit__(None, None, None)
        types = {"rows": pa.int32(), "stretch": pa.int32(), "start": pa.int32(), "classes": pa.list_(labels)}
        table = pa.table({key: pa.array(values, types.get(key, pa.string())) for key, values in self.index.items()})
        with folder.writing(f"index-{self.name}.parquet") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        size = folder.size(f"{self.name}.parquet")
        return {"part": self.name, "tasks": len(table), "rows": self.rows, "bytes": size}

    def undo(self) -> None:
        """Leave no file."""
        with suppress(OSError, ValueError):
            self._writer.close()
        with suppress(_Undone):
            self._context.__exit__(_Undone, _Undone(), None)


class _Undone(Exception):
    """Tells a file that is being written that it is not wanted."""


@final
class _Writer:
    """Deals tasks to files by their columns."""

    def __init__(self, folder: StoreFolder, precision: np.dtype, before: dict[str, Any] | None) -> None:
        self._folder, self._precision, self._before = folder, precision, before
        self._open: dict[Any, _Part] = {}
        self._done: list[dict[str, Any]] = []
        self._named: list[str] = []
        self._kind = before and before["kind"]
        self._labels_type: Any = None
        self._number = len(before["parts"]) if before else 0
        folder.sweep()

    def add(self, task: Any) -> None:
        """Take one task."""
        if not isinstance(task, Task):
            raise TaskError(f"A store takes tasks, but got a {type(task).__name__}; pass Task objects.")
        if self._kind is None:
            self._kind = task.kind
        if task.kind != self._kind:
            raise TaskError(f"Tasks of a store must be of one kind ({self._kind}), but {task.name!r} is a {task.kind}.")
        signature = _signature(task)
        part = self._open.get(signature)
        if part is None:
            if len(self._open) >= OPEN_PARTS:
                self._close(next(iter(self._open)))
            part = self._open[signature] = _Part(self._folder, self._number, self._schema(task, signature))
            self._named.append(part.name)
            self._number += 1
        part.tasks.append(task)
        part.waiting += len(task)
        if part.waiting >= GROUP_ROWS:
            part.flush(self._precision)
            if part.rows >= PART_ROWS:
                self._close(signature)

    def finish(self, labels: Labels | None) -> None:
        """End all files and let them count."""
        for signature in list(self._open):
            self._close(signature)
        parts = [*(self._before["parts"] if self._before else ()), *self._done]
        if not self._done:
            raise TaskError("There is no task to store; bring at least one.")
        _check_names(self._folder, parts)
        known = self._before["labels"] if self._before else None
        if known and labels and known != labels:
            raise TaskError(f"The store holds tasks with {known} labels; labels={labels!r} cannot be added to them.")
        labels = (known or labels or "shared") if self._kind == "classification" else None
        says = {"upstairs": "tasks", "version": VERSION, "kind": self._kind, "labels": labels, "parts": parts}
        with self._folder.writing(DESCRIPTION) as file:
            file.write(json.dumps(says, indent=1).encode())

    def undo(self) -> None:
        """Remove all that was written."""
        for part in self._open.values():
            part.undo()
        for part_name in self._named:
            for name in (f"{part_name}.parquet", f"index-{part_name}.parquet"):
                self._folder.remove(name)

    def _close(self, signature: Any) -> None:
        part = self._open[signature]
        part.flush(self._precision)
        self._done.append(part.close(self._folder, self._labels_type))
        del self._open[signature]

    def _schema(self, task: Task, signature: Any) -> Any:
        import pyarrow as pa

        number = pa.float64() if self._precision == np.float64 else pa.float32()
        target = pa.array(_list(task.y[:1])).type
        if self._labels_type is None:
            self._labels_type = target
        if target != self._labels_type:
            raise TaskError(
                f"Task {task.name!r} has targets of type {target}, and the tasks before {self._labels_type}."
            )
        if isinstance(task.X, Table):
            types = [pa.string() if column.dtype == object else number for column in task.X.columns]
            names = list(task.X.names)
        else:
            types, names = [number] * task.X.shape[1], [f"x{n}" for n in range(task.X.shape[1])]
        fields = [pa.field(name, kind) for name, kind in zip(names, types, strict=True)]
        form = b"table" if isinstance(task.X, Table) else b"array"
        return pa.schema([*fields, pa.field(TARGET, target)], metadata={b"upstairs": form})


def _signature(task: Task) -> Any:
    """Equal for tasks whose rows can stand in one file."""
    if isinstance(task.X, Table):
        return task.X.names, tuple(column.dtype == object for column in task.X.columns), task.y.dtype.kind
    return task.X.shape[1], task.y.dtype.kind


def _stacked(tasks: list[Task]) -> tuple[Any, np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(task) for task in tasks])]).astype(np.int64)
    first = tasks[0].X
    X = Table.concatenate([t.X for t in tasks]) if isinstance(first, Table) else np.concatenate([t.X for t in tasks])
    return X, np.concatenate([task.y for task in tasks]), offsets


def _cells(column: np.ndarray, precision: np.dtype) -> Any:
    import pyarrow as pa

    if column.dtype != object:
        return pa.array(column.astype(precision, copy=False))
    odd = [value for value in column.tolist() if value is not None and not isinstance(value, str)]
    if odd:
        raise TaskError(f"Categories in a store must be text, but one is {odd[0]!r}; turn them into text first.")
    return pa.array(column.tolist(), pa.string())


def _rounded(X: Any, precision: np.dtype) -> Any:
    """Cells as they come back from the disk."""
    if precision == np.float64:
        return X
    if isinstance(X, Table):
        return Table(X.names, [c if c.dtype == object else c.astype(precision).astype(np.float64) for c in X.columns])
    return X.astype(precision).astype(np.float64)


def _list(y: np.ndarray) -> Any:
    return y.tolist() if y.dtype.kind == "U" else y


def _texts(schema: Any) -> list[str]:
    """Columns that a dictionary makes smaller."""
    import pyarrow as pa

    return [field.name for field in schema if pa.types.is_string(field.type)]


def _check_names(folder: StoreFolder, parts: list[dict[str, Any]]) -> None:
    """Refuse a name that stands twice, with little memory."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = [pq.read_table(folder.open(f"index-{part['part']}.parquet"), columns=["name"])["name"] for part in parts]
    names = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    counts = pc.value_counts(names)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        name, count = twice[0]["values"].as_py(), twice[0]["counts"].as_py()
        raise TaskError(f"Task names must be unique, but {name!r} stands {count} times in the store; rename the tasks.")
