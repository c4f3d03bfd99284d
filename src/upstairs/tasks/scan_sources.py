"""Tables that do not fit into memory, read in blocks: files, folders, and whatever hands over Arrow batches."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from upstairs.errors import TaskError
from upstairs.tasks.readers_common import listed
from upstairs.tasks.readers_files import PARQUET, SEPARATORS, SUFFIXES

__all__ = ["Source", "cost", "open_source", "plain_batches"]

BLOCK_ROWS = 65_536
"""Rows of Parquet that are decoded in one go."""
BLOCK_BYTES = 8_000_000
"""Bytes of CSV that are parsed in one go."""
_JOINED = {
    frozenset(("int64", "double")): "double",
    frozenset(("date32[day]", "timestamp[s]")): "timestamp[s]",
    frozenset(("date32[day]", "timestamp[ns]")): "timestamp[ns]",
    frozenset(("timestamp[s]", "timestamp[ns]")): "timestamp[ns]",
}
"""Types of CSV cells that have one type together; any others are text together."""
Batches: TypeAlias = Callable[[Sequence[str]], Iterator[Any]]


def _as_it_is(table: Any) -> Any:
    return table


@dataclass(frozen=True)
class Source:
    """Batches of one table, in their order.

    Parameters
    ----------
    name : str
        For messages.
    columns : tuple of str
    batches : function
        From the columns that are wanted to an iterator of record batches.
    finish : function
        Gives rows the types that are known once all batches were seen.
    types : dict
        The types of CSV columns so far; empty for other sources.
    """

    name: str
    columns: tuple[str, ...]
    batches: Batches
    finish: Callable[[Any], Any] = _as_it_is
    types: dict[str, Any] = field(default_factory=dict)


def open_source(source: Any, *, text: Sequence[str], temporary: str) -> Source:
    """Look at a source and say its columns.

    Parameters
    ----------
    source : path, pyarrow Dataset or RecordBatchReader, frame or lazy frame
    text : sequence of str
        CSV columns that stay text.
    temporary : str
        A folder for what a lazy frame is written to.

    Raises
    ------
    TaskError
        If it is none of these, has no file, or has a column name twice.
    """
    found = _open(source, text, temporary)
    twice = [repr(name) for name, count in Counter(found.columns).items() if count > 1]
    if twice:
        raise TaskError(f"Column names must be unique, but {listed(twice)} stand more than once; rename them.")
    return found


def _open(source: Any, text: Sequence[str], temporary: str) -> Source:
    import narwhals as nw
    import pyarrow as pa
    import pyarrow.dataset as ds

    if isinstance(source, str | os.PathLike):
        return _path(Path(source), text)
    if isinstance(source, ds.Dataset):

        def of_dataset(columns: Sequence[str]) -> Iterator[Any]:
            options: dict[str, Any] = {"batch_size": BLOCK_ROWS, "batch_readahead": 2, "fragment_readahead": 1}
            if isinstance(
                getattr(source, "format", None), ds.ParquetFileFormat
            ):  # which else keeps all that it has read
                options["fragment_scan_options"] = ds.ParquetFragmentScanOptions(pre_buffer=False)
            yield from source.to_batches(columns=list(columns), **options)

        return Source("the dataset", tuple(source.schema.names), of_dataset)
    if hasattr(source, "__arrow_c_stream__"):
        reader = source if isinstance(source, pa.RecordBatchReader) else pa.RecordBatchReader.from_stream(source)

        def of_reader(columns: Sequence[str]) -> Iterator[Any]:
            for batch in reader:
                yield batch.select(list(columns))

        return Source(f"the {type(source).__name__}", tuple(reader.schema.names), of_reader)
    frame = nw.from_native(source, pass_through=True)
    if isinstance(frame, nw.LazyFrame):

        def of_lazy(columns: Sequence[str]) -> Iterator[Any]:
            written = Path(temporary, "lazy.parquet")
            frame.select(list(columns)).sink_parquet(written)  # by the engine of the frame, a stretch at a time
            yield from _path(written, ()).batches(columns)
            written.unlink()

        return Source("the lazy frame", tuple(frame.collect_schema().names()), of_lazy)
    raise TaskError(
        f"source must be a path, a pyarrow Dataset or RecordBatchReader, a lazy frame, or anything that hands over Arrow "
        f"batches (__arrow_c_stream__), but is a {type(source).__name__}."
    )


def _path(path: Path, text: Sequence[str]) -> Source:
    if path.is_dir():
        files = sorted((file for file in path.glob("**/*") if _is_parquet(file, path)), key=lambda f: _counted(f, path))
        if not files:
            raise TaskError(f"Folder {str(path)!r} has no file that ends in {' or '.join(PARQUET)}; correct the path.")
        return _parquet(path, files)
    if not path.is_file():
        raise TaskError(f"source: there is no file or folder {str(path)!r}; correct the path.")
    if not path.name.lower().endswith(SUFFIXES):
        raise TaskError(f"{path.name}: cannot tell the format; the name must end in {', '.join(SUFFIXES)}.")
    return _parquet(path, [path]) if path.name.lower().endswith(PARQUET) else _csv(path, text)


def _is_parquet(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden and file.name.lower().endswith(PARQUET)


def _counted(file: Path, folder: Path) -> list[Any]:
    """Order of names in which part-10 comes after part-2."""
    pieces = re.split(r"(\d+)", file.relative_to(folder).as_posix())
    return [int(piece) if number % 2 else piece for number, piece in enumerate(pieces)]


def _parquet(path: Path, files: Sequence[Path]) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first: Any = None
    for file in files:
        try:
            schema = pq.read_schema(file).remove_metadata()
            first = schema if first is None else first
            if set(schema.names) != set(first.names):
                odd = listed(sorted(map(repr, set(schema.names) ^ set(first.names))), 8)
                raise TaskError(f"{file.name}: has other columns than {files[0].name} ({odd}); write them alike.")
            first = pa.unify_schemas([first, schema], promote_options="permissive") if len(files) > 1 else first
        except TaskError:
            raise
        except (OSError, ValueError, TypeError) as error:  # pyarrow's errors
            raise _unreadable(file.name, error) from error
    whole = first

    def of_files(columns: Sequence[str]) -> Iterator[Any]:
        wanted = pa.schema([whole.field(name) for name in columns])
        for file in files:
            metadata = pq.read_metadata(file)
            for stretch in range(metadata.num_row_groups):  # a file that stays open keeps what was read before
                with pq.ParquetFile(file, metadata=metadata, buffer_size=1 << 20) as opened:
                    for batch in opened.iter_batches(BLOCK_ROWS, row_groups=[stretch], columns=list(columns)):
                        yield batch.select(list(columns)).cast(wanted)

    return Source(path.name, tuple(whole.names), of_files)


def _csv(path: Path, text: Sequence[str]) -> Source:
    """Read cells as text, and find a type for each column that fits all of them, as `read_table` does."""
    import pyarrow as pa
    import pyarrow.csv as pc

    lower = path.name.lower()
    separator = SEPARATORS[next(suffix for suffix in Path(lower).suffixes[::-1] if suffix != ".gz")]

    def opened(kinds: dict[str, Any], columns: Sequence[str]) -> Any:
        stream = pa.input_stream(str(path), compression="gzip" if lower.endswith(".gz") else None)
        return pc.open_csv(
            stream,
            pc.ReadOptions(block_size=BLOCK_BYTES),
            pc.ParseOptions(delimiter=separator, newlines_in_values=True),
            _converted(kinds, list(columns)),
        )

    try:
        with opened({}, ()) as reader:
            names = tuple(reader.schema.names)
    except (OSError, ValueError) as error:
        raise _unreadable(path.name, error) from error
    other = next((character for character in ",;\t|" if len(names) == 1 and character in names[0]), None)
    if other:
        raise TaskError(
            f"{path.name}: the columns are separated by {other!r} and not by {separator!r}; write it again."
        )
    types: dict[str, Any] = {name: pa.string() if name in text else pa.null() for name in names}

    def of_file(columns: Sequence[str]) -> Iterator[Any]:
        with opened(dict.fromkeys(names, pa.string()), columns) as reader:
            for batch in reader:
                open_still = [name for name in columns if types[name] != pa.string()]
                if open_still and len(batch):
                    for column in _parsed(batch.select(open_still), {}).schema:
                        types[column.name] = _joined(types[column.name], column.type)
                yield batch

    def finish(table: Any) -> Any:
        typed = {name: types[name] for name in table.column_names if types[name] != pa.string()}
        parsed = _parsed(table.select(list(typed)), typed) if typed else table
        return pa.table({name: (parsed if name in typed else table)[name] for name in table.column_names})

    return Source(path.name, names, of_file, finish, types)


def _converted(kinds: dict[str, Any], columns: Sequence[str] = ()) -> Any:
    import pyarrow.csv as pc

    return pc.ConvertOptions(
        null_values=[""], strings_can_be_null=True, column_types=kinds, include_columns=list(columns)
    )


def _parsed(cells: Any, kinds: dict[str, Any]) -> Any:
    """Text cells as the CSV reader understands them, with the types given or found."""
    import pyarrow as pa
    import pyarrow.csv as pc

    sink = pa.BufferOutputStream()
    pc.write_csv(cells, sink, pc.WriteOptions(include_header=False))
    return pc.read_csv(
        pa.BufferReader(sink.getvalue()),
        pc.ReadOptions(column_names=cells.schema.names, block_size=4 * BLOCK_BYTES),
        pc.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        _converted(kinds),
    )


def _joined(one: Any, other: Any) -> Any:
    """The type that two blocks of a CSV column have together."""
    import pyarrow as pa

    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    name = _JOINED.get(frozenset((str(one), str(other))))
    return next((kind for kind in (one, other, pa.float64()) if str(kind) == name), pa.string())


def _unreadable(name: str, error: Exception) -> TaskError:
    message = str(error).split("\n")[0][:160]
    return TaskError(f"{name}: cannot be read ({message}); repair it or write it again.")


def plain_batches(source: Source, columns: Sequence[str], most: int) -> Iterator[Any]:
    """Batches of at most ``most`` bytes, with text in one form and without dictionaries.

    Raises
    ------
    TaskError
        If reading fails in the middle.
    """
    batches = source.batches(columns)
    while True:
        try:
            batch = next(batches, None)
        except (OSError, ValueError, TypeError, NotImplementedError) as error:  # pyarrow's errors
            raise _unreadable(source.name, error) from error
        if batch is None:
            return
        step = max(1, int(len(batch) * most / max(cost(batch), 1)))
        for start in range(0, len(batch), step):
            yield _plain(batch.slice(start, step))


def cost(rows: Any) -> int:
    """Bytes of rows; a cell counts for eight at least, as it will in a task."""
    return int(max(rows.nbytes, 8 * rows.num_rows * rows.num_columns))


def _plain(batch: Any) -> Any:
    import pyarrow as pa

    columns = [_plain_column(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _plain_column(column: Any) -> Any:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        words = _plain_column(column.dictionary)
        if not pa.types.is_string(words.type):  # categories, as a data frame shows them
            words = pa.array([None if word is None else str(word) for word in words.to_pylist()], pa.string())
        return words.take(column.indices)
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return column.cast(pa.string())
    return column
