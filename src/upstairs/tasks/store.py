"""Tasks of a store, read when they are looked at, a row group at a time."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Int

from upstairs.errors import StorageError, TaskError
from upstairs.tasks.store_folder import StoreFolder
from upstairs.tasks.store_write import TARGET, read_description
from upstairs.tasks.table import Table
from upstairs.tasks.task import Kind, LazyTask, Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["StoreEntries", "duplicates", "from_store"]

CACHED = 4
"""Row groups that are kept in memory."""


def from_store(path: str | os.PathLike[str], *, damaged: Literal["raise", "skip"] = "raise") -> TaskSet:
    """Open a store; see `TaskSet.from_store`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if damaged not in ("raise", "skip"):
        raise TaskError(f"damaged must be 'raise' or 'skip', but is {damaged!r}.")
    folder = StoreFolder(path)
    says = read_description(folder)
    tables: list[Any] = []
    forms: list[tuple[str, Any]] = []
    lost = 0
    for part in says["parts"]:
        name = part["part"]
        try:
            forms.append(_form(folder, name, part["bytes"], whole=damaged == "skip"))
            table = pq.read_table(folder.open(f"index-{name}.parquet"), page_checksum_verification=True)
        except (OSError, ValueError) as error:  # pyarrow's errors are OSError and ValueError
            if damaged == "raise":
                raise _damaged(f"{name}.parquet ({part['tasks']} tasks)", folder, error) from error
            forms = forms[: len(tables)]
            lost += part["tasks"]
            continue
        tables.append(table.append_column("part", pa.array(np.full(len(table), len(tables), np.int32))))
    if lost:
        warnings.warn(f"store '{folder.address}': {lost} tasks in damaged files are left out", stacklevel=2)
    if not tables:
        raise StorageError(f"store '{folder.address}' has no file that can be read; bring it back from a copy.")
    index = pa.concat_tables(tables).combine_chunks()
    return TaskSet.over(StoreEntries(folder, tuple(forms), says["kind"], index), says["kind"], says["labels"])


def duplicates(tasks: TaskSet) -> list[tuple[str, ...]]:
    """Names of tasks of a store that are the same data, whatever the order of their rows and columns.

    Raises
    ------
    TaskError
        If the tasks are not those of a store.

    Examples
    --------
    >>> import tempfile
    >>> X, y = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    >>> tasks = TaskSet([Task(X, y, name="a"), Task(X[::-1], y[::-1], name="b"), Task(X, -y, name="c")])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tasks.to_store(folder)
    ...     duplicates(TaskSet.from_store(folder))
    [('a', 'b')]
    """
    entries = tasks._entries
    if not isinstance(entries, StoreEntries):
        raise TaskError("duplicates looks at the index of a store; open one with TaskSet.from_store(path).")
    prints = np.array(entries.lines["print"].to_pylist(), dtype=object)
    found: dict[str, list[str]] = {}
    _, codes, counts = np.unique(prints, return_inverse=True, return_counts=True)
    for number in np.flatnonzero(counts[codes] > 1).tolist():
        found.setdefault(prints[number], []).append(entries.names[number])
    return [tuple(names) for names in found.values()]


@final
class StoreEntries(Sequence[LazyTask]):
    """What is known of the tasks of a store without reading them: a table with one line a task.

    Parameters
    ----------
    folder : StoreFolder
    forms : tuple of (str, column names or their number)
        Of each file.
    kind : {"regression", "classification"}
    lines : pyarrow.Table
        ``name, group, rows, stretch, start, print, classes, part``.
    """

    def __init__(self, folder: StoreFolder, forms: tuple[tuple[str, Any], ...], kind: Kind, lines: Any) -> None:
        self.folder, self.forms, self.kind, self.lines = folder, forms, kind, lines

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.take(np.arange(len(self))[number])
        number = range(len(self))[number]
        return self._entry({name: self.lines[name][number].as_py() for name in self.lines.column_names})

    def __iter__(self) -> Iterator[LazyTask]:
        for batch in self.lines.to_batches(max_chunksize=65536):
            columns = {name: batch[name].to_pylist() for name in batch.schema.names}
            for values in zip(*columns.values(), strict=True):
                yield self._entry(dict(zip(columns, values, strict=True)))

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Of all tasks."""
        return tuple(self.lines["name"].to_pylist())

    @functools.cached_property
    def groups(self) -> tuple[str | None, ...]:
        """Of all tasks; None without one."""
        return tuple(self.lines["group"].to_pylist())

    @property
    def rows(self) -> Int[np.ndarray, " task"]:
        """Of all tasks."""
        found: np.ndarray = self.lines["rows"].to_numpy().astype(np.int64)
        return found

    @property
    def starts(self) -> Int[np.ndarray, " task"]:
        """First row of every task inside its row group."""
        found: np.ndarray = self.lines["start"].to_numpy().astype(np.int64)
        return found

    @functools.cached_property
    def classes(self) -> tuple[Any, ...]:
        """All labels that occur, sorted."""
        import pyarrow.compute as pc

        return tuple(sorted(pc.unique(pc.list_flatten(self.lines["classes"])).to_pylist()))

    @property
    def columns(self) -> tuple[Any, ...]:
        """What columns there are: names or their number, each once."""
        used = np.unique(self.lines["part"].to_numpy()).tolist()
        return tuple(dict.fromkeys(self.forms[part][1] for part in used))

    def stretches(self) -> Int[np.ndarray, " task"]:
        """The row group of each task, as one number that `stretch` takes."""
        found: np.ndarray = self.lines["part"].to_numpy().astype(np.int64) << 32
        return found + self.lines["stretch"].to_numpy()

    def stretch(self, number: int) -> tuple[Any, np.ndarray]:
        """Read the rows of a row group: X and y of all tasks in it."""
        import pyarrow.parquet as pq

        name = self.forms[number >> 32][0]
        try:
            with pq.ParquetFile(self.folder.open(f"{name}.parquet"), page_checksum_verification=True) as file:
                return decoded(file.read_row_group(number & 0xFFFFFFFF))
        except (OSError, ValueError) as error:
            raise _damaged(f"{name}.parquet", self.folder, error) from error

    def take(self, numbers: Any) -> StoreEntries:
        """Return some of them."""
        import pyarrow as pa

        lines = self.lines.take(pa.array(np.asarray(numbers, dtype=np.int64))).combine_chunks()
        return StoreEntries(self.folder, self.forms, self.kind, lines)

    def _entry(self, line: dict[str, Any]) -> LazyTask:
        form, columns = self.forms[line["part"]]
        classes = tuple(line["classes"])
        read = functools.partial(_read_task, self.folder, form, line, self.kind)
        return LazyTask(line["name"], line["rows"], self.kind, classes, columns, read, line["group"])


def _read_task(folder: StoreFolder, form: str, line: dict[str, Any], kind: Kind) -> Task:
    try:
        X, y = _stretch(folder.address, form, line["stretch"])
    except (OSError, ValueError) as error:
        raise _damaged(f"Task {line['name']!r}: {form}.parquet", folder, error) from error
    rows = slice(line["start"], line["start"] + line["rows"])
    task = object.__new__(Task)  # checked when it was written
    X = X.take(rows) if isinstance(X, Table) else X[rows]
    task.__dict__.update(X=X, y=y[rows], name=line["name"], kind=kind, group=line["group"])
    return task


def _damaged(what: str, folder: StoreFolder, error: Exception) -> StorageError:
    return StorageError(
        f"{what} in store '{folder.address}' is damaged or gone ({str(error)[:120]}); bring it back from a copy, or leave its tasks out "
        "with from_store(path, damaged='skip')."
    )


@functools.lru_cache(maxsize=CACHED)
def _stretch(address: str, part: str, stretch: int) -> tuple[Any, np.ndarray]:
    """Read the rows of one row group; the last few are kept."""
    import pyarrow.parquet as pq

    folder = StoreFolder(address)
    with pq.ParquetFile(folder.open(f"{part}.parquet"), page_checksum_verification=True) as file:
        return decoded(file.read_row_group(stretch))


def decoded(table: Any) -> tuple[Any, np.ndarray]:
    """Turn rows of a file into what a task holds."""
    import pyarrow as pa

    *names, target = table.schema.names
    assert target == TARGET
    columns = []
    for name in names:
        column = table[name]
        if pa.types.is_string(column.type):
            columns.append(np.array(column.to_pylist(), dtype=object))
        else:
            columns.append(column.to_numpy().astype(np.float64, copy=False))
    y = table[target]
    values = np.array(y.to_pylist()) if pa.types.is_string(y.type) else y.to_numpy()
    if table.schema.metadata[b"upstairs"] == b"table":
        return Table(names, columns), values
    return np.stack(columns, axis=1) if columns else np.empty((len(values), 0)), values


def _form(folder: StoreFolder, part: str, size: int, *, whole: bool) -> tuple[str, Any]:
    """Check that a file is there, as long as it was, and (``whole``) as it was; say its columns."""
    import pyarrow.parquet as pq

    if folder.size(f"{part}.parquet") != size:
        raise OSError(f"the file has {folder.size(f'{part}.parquet')} bytes and not {size}")
    with pq.ParquetFile(folder.open(f"{part}.parquet"), page_checksum_verification=True) as file:
        if whole:
            for stretch in range(file.num_row_groups):
                file.read_row_group(stretch)
        schema = file.schema_arrow
    names = tuple(schema.names[:-1])
    return part, names if schema.metadata[b"upstairs"] == b"table" else len(names)
