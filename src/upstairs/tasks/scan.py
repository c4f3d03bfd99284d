"""Tasks out of one table that does not fit into memory and in which the rows of a task do not stand together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from typing import Any, final

import numpy as np

from upstairs.errors import StorageError, TaskError
from upstairs.tasks.readers import check_arguments, from_frame, wide_kind
from upstairs.tasks.readers_common import (
    as_tuple,
    check_choices,
    is_missing_word,
    is_stray,
    listed,
    odd_numbers,
    raise_together,
    stray_message,
    target_values,
)
from upstairs.tasks.scan_sources import Source, open_source, plain_batches
from upstairs.tasks.spill import CHUNK_BYTES, parts_by_name
from upstairs.tasks.task import Kind, Labels, Task

__all__ = ["TaskScan", "scan_tasks"]

ENOUGH = 1000
"""Distinct targets that are kept to tell labels from numbers."""


def scan_tasks(
    source: Any,
    *,
    task: str,
    target: str | Sequence[str],
    group: str | None = None,
    kind: Kind | None = None,
    categorical: Sequence[str] = (),
    labels: Labels | None = None,
    order: str | None = None,
    drop: Sequence[str] = (),
    temporary: str | os.PathLike[str] | None = None,
) -> TaskScan:
    """Read tasks from a table that does not fit into memory, for `write_store`.

    The tasks are those of `TaskSet.from_frame`, in another order. All rows are read once and dealt, by a hash of the task's name, to
    temporary files that fit into memory; then one file after another is turned into tasks. The files are removed when the last task was
    taken, the iterator is closed, or an error is raised.

    Parameters
    ----------
    source : path, pyarrow Dataset or RecordBatchReader, or frame
        A Parquet, CSV or TSV (also ``.gz``) file, or a folder of Parquet files; a `polars.LazyFrame`, which is run by its own engine
        and never collected; or anything with ``__arrow_c_stream__``, such as a relation of DuckDB. In CSV a column has the type that
        fits all its cells; the task and group columns stay text.
    task : str
        The column that names the task of a row. Rows of a task need not stand together; they keep their order.
    target : str or list of str
        One target column, or a list: one task for each (task, column).
    group : str, optional
        A column that is constant inside a task.
    kind : {"regression", "classification"}, optional
        Inferred with `infer_kind` on the whole column, before the first task comes; the same for all tasks.
    categorical : sequence of str
        Number columns that are identifiers and become categories.
    labels : {"shared", "own"}, optional
        Shared when not given; `write_store` takes it from here.
    order : str, optional
        A column by which the rows of a task are sorted; it stays a feature unless in ``drop``.
    drop : sequence of str
        Columns that are not features; they are not read.
    temporary : path, optional
        Where the temporary folder is made, with as much space as the table takes; by default where the system has such files.

    Returns
    -------
    TaskScan
        An iterator of tasks, that can be run through once.

    Raises
    ------
    TaskError
        At once for a column or a file that is absent. Later, as `TaskSet.from_frame` does, for the bad tasks of the first file that
        has any.
    StorageError
        If a temporary file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> import upstairs as up
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame({"shop": rng.integers(0, 50, 1000), "area": rng.random(1000), "revenue": rng.random(1000)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame.to_parquet(f"{folder}/events.parquet")
    ...     tasks = scan_tasks(f"{folder}/events.parquet", task="shop", target="revenue")
    ...     up.tasks.write_store(f"{folder}/tasks", tasks)
    ...     up.TaskSet.from_store(f"{folder}/tasks")
    TaskSet(50 tasks, 1000 rows, regression)
    """
    check_choices(kind, labels)
    asked: dict[str, Any] = {"task": task, "target": target, "group": group, "order": order, "categorical": categorical}
    return TaskScan(source, asked, kind, labels or "shared", as_tuple(drop), temporary)


@final
class TaskScan(Iterator[Task]):
    """What `scan_tasks` returns; ``labels`` says whether tasks share labels."""

    def __init__(
        self,
        source: Any,
        asked: dict[str, Any],
        kind: Kind | None,
        labels: Labels,
        drop: tuple[str, ...],
        temporary: str | os.PathLike[str] | None,
    ) -> None:
        self.labels = labels
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="upstairs-", dir=temporary, ignore_cleanup_errors=True)
        except OSError as error:
            raise StorageError(
                f"temporary={str(temporary)!r} must be a folder that can be written to ({error})."
            ) from error
        try:
            text = (*as_tuple(asked["task"]), *as_tuple(asked["group"]))
            opened = open_source(source, text=text, temporary=self._folder.name)
            raise_together("scan_tasks", check_arguments(opened.columns, **asked, drop=drop))
            self._tasks = _tasks(opened, asked, kind, labels, drop, self._folder)
        except BaseException:
            self._folder.cleanup()
            raise

    def __next__(self) -> Task:
        return next(self._tasks)

    def close(self) -> None:
        """Stop, and remove the temporary files."""
        self._tasks.close()
        self._folder.cleanup()

    def __del__(self) -> None:
        folder = getattr(self, "_folder", None)
        if folder is not None:
            folder.cleanup()


def _tasks(
    source: Source,
    asked: dict[str, Any],
    kind: Kind | None,
    labels: Labels,
    drop: tuple[str, ...],
    folder: tempfile.TemporaryDirectory,
) -> Generator[Task, None, None]:
    """One part after another, by `from_frame`."""
    parts = {name for key in ("task", "target", "group", "order") for name in as_tuple(asked[key])}
    columns = [name for name in source.columns if name not in drop or name in parts]
    wide = not isinstance(asked["target"], str)
    arguments = {**asked, "labels": labels, "drop": [name for name in drop if name in columns]}
    with folder:
        seen = _Seen(source, asked, kind)
        some, absent = False, 0
        for part in parts_by_name(seen.watched(columns), asked["task"], folder.name):
            if not some:
                kind, some = seen.decided(), True
                arguments |= {"kind": kind, "categorical": [*as_tuple(asked["categorical"]), *seen.texts()]}
            table = source.finish(part)
            if wide and all(_nothing(table[name]) for name in as_tuple(asked["target"])):
                absent += len(table)
                continue
            try:
                tasks = iter(from_frame(table, **arguments))
            except TaskError as error:
                raise TaskError(str(error).replace("from_frame", "scan_tasks", 1)) from None
            del part, table
            yield from tasks
        if not some:
            raise TaskError(f"scan_tasks: {source.name} has no rows; bring at least one.")
        if absent == seen.rows:
            shown = listed([repr(name) for name in as_tuple(asked["target"])])
            raise TaskError(f"scan_tasks: the targets {shown} are missing in every row; name measured columns.")


def _nothing(column: Any) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.is_null(column, nan_is_null=True)).as_py())


class _Text:
    """Counts of cells of a text column, which tell whether they are numbers but for a few."""

    def __init__(self) -> None:
        self.present = self.strays = 0
        self.words = True
        self.first: tuple[str, int, str] | None = None


@final
class _Seen:
    """What `from_frame` looks at in whole columns, gathered from all batches before the first task is made."""

    def __init__(self, source: Source, asked: dict[str, Any], kind: Kind | None) -> None:
        self._source, self._kind, self._task = source, kind, asked["task"]
        self._targets = as_tuple(asked["target"])
        self._aside = {*self._targets, *as_tuple(asked["task"]), *as_tuple(asked["group"])}
        self._unchecked = {*as_tuple(asked["task"]), *as_tuple(asked["group"]), *as_tuple(asked["categorical"])}
        if kind == "classification":
            self._unchecked |= set(self._targets)
        self._texts: dict[str, _Text] = {}
        self._distinct: dict[str, Any] = {}
        self.rows = 0

    def watched(self, columns: Sequence[str]) -> Iterator[Any]:
        """Batches, each of which is looked at."""
        for batch in plain_batches(self._source, columns, CHUNK_BYTES):
            self._look(batch)
            self.rows += len(batch)
            yield batch

    def decided(self) -> Kind:
        """Say the kind, and raise what is wrong with whole columns."""
        problems = []
        for name, text in self._texts.items():
            if text.first and self._type(name) == "string":
                value, row, task = text.first
                if is_stray(text.present, text.strays, words=text.words):
                    place = f"row {row}, counted from 0, of task {task!r}"
                    what, remedy = f"column {name!r}", "or name it in categorical="
                    if name in self._targets:
                        what, remedy = f"target {name!r}", "or say kind='classification' if these are labels"
                    problems.append(f"{what} {stray_message(text.present, text.strays, value, place)}, {remedy}")
        raise_together("scan_tasks", problems)
        kind, as_names = wide_kind({name: self._values(name) for name in self._targets}, self._kind)
        if as_names:
            raise TaskError("scan_tasks: some targets are text and some numbers; scan them one after the other.")
        return kind

    def texts(self) -> list[str]:
        """Text columns, which were checked as a whole."""
        return [name for name in self._texts if name not in self._aside and self._type(name) == "string"]

    def _type(self, name: str) -> str:
        """Type of a text column: of CSV cells what they mean, as far as is known."""
        return str(self._source.types.get(name, "string"))

    def _look(self, batch: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        names = batch.column(self._task)
        gone = pc.is_null(names, nan_is_null=True)
        if pc.any(gone).as_py():
            row = self.rows + pc.index(gone, True).as_py()
            raise TaskError(
                f"scan_tasks: task column {self._task!r} is missing in row {row}, counted from 0; drop such rows or "
                "name their task."
            )
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in self._targets:
                self._gather(name, column)
            if pa.types.is_string(column.type):
                if name not in self._unchecked:
                    self._count(name, column, names)
            elif pa.types.is_floating(column.type) and name not in self._aside:
                infinite = pc.is_inf(column)
                if pc.any(infinite).as_py():
                    row = pc.index(infinite, True).as_py()
                    raise TaskError(
                        f"scan_tasks: column {name!r} must be finite or missing, but row {self.rows + row} (task "
                        f"{str(names[row].as_py())!r}) is infinite; replace it."
                    )

    def _gather(self, name: str, column: Any) -> None:
        import pyarrow as pa

        known = self._distinct.get(name)
        if known is None or len(known) < ENOUGH:
            found = column.unique().drop_null()
            self._distinct[name] = pa.concat_arrays([known, found]).unique() if known is not None else found

    def _values(self, name: str) -> np.ndarray:
        import narwhals as nw
        import pyarrow as pa

        table = self._source.finish(pa.table({name: self._distinct[name]}))
        values, missing = target_values(name, nw.from_native(table)[name])
        return np.unique(values[~missing])

    def _count(self, name: str, column: Any, tasks: Any) -> None:
        import pyarrow.compute as pc

        text = self._texts.setdefault(name, _Text())
        text.present += len(column) - column.null_count
        if self._type(name) in ("int64", "double", "null"):
            return  # cells of a CSV file, all of them numbers so far
        counts = pc.value_counts(column.drop_null())
        cells = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
        odd = odd_numbers(cells)
        if not odd:
            return
        text.strays += sum(cells[value] for value in odd)
        text.words = text.words and all(is_missing_word(value) for value in odd)
        if text.first is None:
            row = next(number for number, value in enumerate(column.to_pylist()) if value in odd)
            text.first = column[row].as_py(), self.rows + row, str(tasks[row].as_py())
