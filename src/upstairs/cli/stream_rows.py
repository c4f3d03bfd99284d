"""Rows of a stream, one piece after another: from a file, or from standard input as soon as they come."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from upstairs.errors import TaskError

__all__ = ["Source", "opened"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".pq")
_BATCH = 1000


@final
@dataclass(frozen=True, slots=True)
class Source:
    """A table that is read once, from the top.

    Attributes
    ----------
    name : str
        For messages.
    columns : tuple of str
    lines : iterator of lists
        One cell a column: text, or what a Parquet file holds; None is a missing one.
    position : function without arguments
        What has been read, and how much there is; (0, 0) if that is not known.
    """

    name: str
    columns: tuple[str, ...]
    lines: Iterator[list[Any]]
    position: Callable[[], tuple[int, int]]

    def piece(self, rows: int) -> dict[str, list[Any]]:
        """Cells of the next ``rows`` rows by column, or of those that are left; no further than that is read."""
        lines = list(itertools.islice(self.lines, rows))
        return {name: [line[place] for line in lines] for place, name in enumerate(self.columns)} if lines else {}

    def pass_over(self, rows: int) -> int:
        """Leave the next rows out; how many there were."""
        return sum(1 for _ in itertools.islice(self.lines, rows))


@contextlib.contextmanager
def opened(source: str) -> Iterator[Source]:
    """Open a CSV, TSV (also ``.gz``) or Parquet file; ``-`` is CSV from standard input.

    As for whole files, an empty cell is missing and nothing else is.

    Raises
    ------
    TaskError
        If there is no such file, its format cannot be told, or it is no table; while rows are read, for one that is broken.
    """
    if source == "-":
        yield _csv("standard input", _standard_input(), ",", lambda: (0, 0))
        return
    path = Path(source)
    suffix = next((part for part in path.suffixes[::-1] if part.lower() != ".gz"), "").lower()
    if not path.is_file():
        raise TaskError(f"{path.name}: there is no such file in {str(path.parent)!r}; correct the path.")
    if suffix in _PARQUET:
        with contextlib.closing(_parquet(path)) as lines:
            columns = tuple(next(lines))
            yield Source(path.name, _checked(path.name, columns), lines, lambda: (0, 0))
        return
    if suffix not in _SEPARATORS:
        raise TaskError(
            f"{path.name}: cannot tell the format; the name must end in .csv, .tsv, .csv.gz, .tsv.gz or .parquet."
        )
    size = path.stat().st_size
    with path.open("rb") as raw:
        zipped = path.suffix.lower() == ".gz"
        plain = gzip.GzipFile(fileobj=raw) if zipped else raw
        text = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
        yield _csv(path.name, text, _SEPARATORS[suffix], lambda: (raw.tell(), size))


def _standard_input() -> Any:
    """Text of standard input; what has come is read and not waited on."""
    raw = getattr(sys.stdin, "buffer", None)
    return sys.stdin if raw is None else io.TextIOWrapper(_Kept(raw), encoding="utf-8-sig", newline="")


class _Kept(io.RawIOBase):
    """Standard input that stays open when its reader is done."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        found: bytes = self._raw.read1(size)
        return found

    def read(self, size: int = -1) -> bytes:
        return self.read1(size)


def _csv(name: str, text: Any, separator: str, position: Callable[[], tuple[int, int]]) -> Source:
    lines = _lines(name, text, separator)
    columns = next(lines, None)
    if columns is None:
        raise TaskError(f"{name}: there is no header; the first line must name the columns.")
    other = next((mark for mark in ",;\t|" if len(columns) == 1 and mark in (columns[0] or "")), None)
    if other:
        raise TaskError(f"{name}: the columns are separated by {other!r} and not by {separator!r}; write it again.")
    header = _checked(name, tuple(str(cell or "") for cell in columns))
    return Source(name, header, _even(name, lines, len(header)), position)


def _checked(name: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    twice = [repr(column) for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise TaskError(f"{name}: the header has {', '.join(twice[:8])} more than once; rename them.")
    return columns


def _lines(name: str, text: Any, separator: str) -> Iterator[list[Any]]:
    """Cells of every line that is not empty."""
    reader = csv.reader(text, delimiter=separator)
    while True:
        try:
            line = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError:
            raise TaskError(f"{name}, after line {reader.line_num}: the text is not UTF-8; write it again.") from None
        except (csv.Error, EOFError, gzip.BadGzipFile) as error:
            raise TaskError(
                f"{name}, after line {reader.line_num}: cannot be read ({error}); repair the file."
            ) from None
        if line:
            yield [cell or None for cell in line]


def _even(name: str, lines: Iterator[list[Any]], width: int) -> Iterator[list[Any]]:
    """Lines that have as many cells as the header."""
    for number, line in enumerate(lines):
        if len(line) != width:
            raise TaskError(
                f"{name}, row {number} (counted from 0): {len(line)} cells, but the header names {width} columns; correct it."
            )
        yield line


def _parquet(path: Path) -> Generator[list[Any], None, None]:
    """Names, then rows."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield list(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True))
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise TaskError(
            f"{path.name}: the file is damaged or of another format ({reason[:120]}); repair it."
        ) from error
