"""Files to tasks: one CSV or Parquet file a task, checked once and read again when it is looked at."""

from __future__ import annotations

import functools
import gzip
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from upstairs.errors import TaskError
from upstairs.tasks.readers_common import (
    as_labels,
    as_tuple,
    check_choices,
    check_columns,
    common_kind,
    listed,
    name_values,
    open_frame,
    raise_together,
    read_features,
    stray_text,
    target_values,
)
from upstairs.tasks.table import Table
from upstairs.tasks.task import Kind, Labels, LazyTask, Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["PARQUET", "SEPARATORS", "SUFFIXES", "from_folder", "read_table"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
SUFFIXES = tuple(suffix + zipped for suffix in SEPARATORS for zipped in ("", ".gz")) + PARQUET
SUBFOLDER = ":folder:"
"""As ``group=`` of `from_folder`: the group is the subfolder that the file lies in."""


def read_table(path: str | os.PathLike[str], *, text: Sequence[str] = ()) -> Any:
    """Read a CSV, TSV (also ``.gz``) or Parquet file into a pyarrow table.

    In CSV and TSV an empty cell is missing and nothing else is: ``NA`` is text.

    Parameters
    ----------
    path : str or path
        The suffix tells the format.
    text : sequence of str, optional
        CSV columns that stay text whatever their cells look like (identifiers such as ``007``).

    Raises
    ------
    TaskError
        If the file is missing, empty, cut off, damaged, of another format, or has a column name twice.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame({"x": [0.5, None], "word": ["NA", "two"]}).to_csv(f"{folder}/a.csv", index=False)
    ...     read_table(f"{folder}/a.csv").to_pydict()
    {'x': [0.5, None], 'word': ['NA', 'two']}
    """
    path = Path(path)
    if not path.is_file():
        raise TaskError(f"{path.name}: there is no such file in {str(path.parent)!r}; correct the path.")
    if not path.name.lower().endswith(SUFFIXES):
        raise TaskError(f"{path.name}: cannot tell the format; the name must end in {', '.join(SUFFIXES)}.")
    try:
        reason, table = _parse(path, text)
    except EOFError:
        reason, table = "the file is cut off", None
    except UnicodeDecodeError:
        reason, table = "the text is not UTF-8", None
    except (OSError, ValueError, zlib.error, MemoryError) as error:  # pyarrow's errors are OSError and ValueError
        message = str(error).split("\n")[0]
        reason, table = f"the file is damaged or of another format ({message[:120]})", None
    if reason:
        raise TaskError(f"{path.name}: {reason}; repair the file or write it again.")
    assert table is not None
    if len(table) == 0:
        raise TaskError(f"{path.name}: the file has {len(table.schema)} columns and no rows; leave it out.")
    return table


def _parse(path: Path, text: Sequence[str]) -> tuple[str | None, Any]:
    """Give a reason why the file cannot be used, or its table."""
    if path.stat().st_size == 0:
        return "the file is empty", None
    table: Any
    if path.name.lower().endswith(PARQUET):
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            table = file.read()
    else:
        import pyarrow as pa
        import pyarrow.csv as pc

        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        if not content.strip():
            return "the file is empty", None
        if b"\0" in content[:65536]:
            return "the file is binary, not text", None
        if b"\n" not in content and b"\r" not in content:
            return "the file has a header and no rows, or is cut off", None
        separator = SEPARATORS[next(suffix for suffix in Path(path.name.lower()).suffixes[::-1] if suffix != ".gz")]
        table = pc.read_csv(
            pa.BufferReader(content),
            parse_options=pc.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pc.ConvertOptions(
                null_values=[""], strings_can_be_null=True, column_types=dict.fromkeys(text, pa.string())
            ),
        )
        if any(pa.types.is_binary(kind) for kind in table.schema.types):
            return "the text is not UTF-8", None
        only = table.schema.names[0] if len(table.schema) == 1 else ""
        other = next((character for character in ",;\t|" if character in only), None)
        if other:
            return f"the columns are separated by {other!r} and not by {separator!r}", None
    twice = [repr(name) for name, count in Counter(table.schema.names).items() if count > 1]
    return (f"the header has {listed(twice)} more than once" if twice else None), table


@dataclass(frozen=True)
class _Reading:
    """How every file of a folder is read."""

    target: str
    group: str | None
    categorical: tuple[str, ...]
    drop: tuple[str, ...]
    kind: Kind | None
    as_names: bool = False


@dataclass(frozen=True)
class _Content:
    X: Table
    y: Shaped[np.ndarray, " row"]
    group: str | None
    columns: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """One file of a folder, as it was when it was checked; ``last`` is shared and holds the task read last."""

    path: Path
    name: str
    stamp: tuple[int, int]
    group: str | None
    reading: _Reading
    last: dict[str, Task] = field(default_factory=dict, repr=False, compare=False)


def from_folder(
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
    """Read a folder with one file a task; see `TaskSet.from_folder`."""
    check_choices(kind, labels)
    if not isinstance(target, str):
        raise TaskError(
            f"target must be one column name, but is {target!r}; for several targets use from_frame(target=[...])."
        )
    if target in as_tuple(categorical):
        raise TaskError(f"categorical= names the target {target!r}; say kind='classification' instead.")
    folder = Path(path)
    paths = _files(folder, "**/*" if group == SUBFOLDER and pattern == "*" else pattern)
    names = _names(folder, paths)
    groups = _groups(folder, dict(zip(names, paths, strict=True)), group)
    column = group if isinstance(group, str) and group != SUBFOLDER else None
    reading = _Reading(target, column, as_tuple(categorical), as_tuple(drop), kind)
    problems: list[str] = []
    files: list[_File] = []
    known: list[tuple[int, tuple[str, ...]]] = []
    distinct: dict[str, np.ndarray] = {}
    columns_seen: dict[str, None] = {}
    for file, name, its_group in zip(paths, names, groups, strict=True):
        try:
            stamp = _stamp(file)
            content = _read(file, reading)
        except TaskError as error:
            problems.append(_about(file.relative_to(folder).as_posix(), str(error)))
            continue
        files.append(_File(file, name, stamp, its_group if column is None else content.group, reading))
        columns_seen |= dict.fromkeys(content.columns)
        known.append((len(content.y), content.X.names))
        distinct[file.relative_to(folder).as_posix()] = _distinct(content.y, kind)
    raise_together(f"Folder {folder.name!r}, {len(problems)} of {len(paths)} files cannot be used", problems)
    raise_together(f"Folder {folder.name!r}", check_columns(tuple(columns_seen), categorical=categorical, drop=drop))
    found, as_names = common_kind(distinct, kind)
    reading = replace(reading, kind=found, as_names=as_names)
    last: dict[str, Task] = {}
    entries = []
    for checked, (rows, columns), values in zip(files, known, distinct.values(), strict=True):
        classes = tuple(np.unique(as_labels(values, as_names=as_names)).tolist()) if found == "classification" else ()
        read = functools.partial(_load, replace(checked, reading=reading, last=last))
        entries.append(LazyTask(checked.name, rows, found, classes, columns, read, checked.group))
    return TaskSet(entries, labels=labels or "shared")


def _distinct(y: Shaped[np.ndarray, " row"], kind: Kind | None) -> Shaped[np.ndarray, " value"]:
    """Distinct targets of a file; of numbers that are no labels only as many as tell that, to save memory."""
    values = np.unique(y)
    return values[:3].copy() if kind != "classification" and y.dtype.kind in "fiu" else values


def _files(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        remedy = "read it with from_frame(read_table(path), ...)" if folder.is_file() else "correct the path"
        raise TaskError(f"path={str(folder)!r} is not a folder; {remedy}.")
    found = [
        file
        for file in sorted(folder.glob(pattern))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    files = [file for file in found if file.name.lower().endswith(SUFFIXES)]
    if not files:
        others = f" ({len(found)} other files, first {found[0].name!r})" if found else ""
        raise TaskError(
            f"Folder {str(folder)!r} has no file that pattern={pattern!r} finds and that ends in {', '.join(SUFFIXES)}"
            f"{others}; correct path= or pattern= ('**/*' looks into subfolders)."
        )
    return files


def _stem(file: Path) -> str:
    return file.name[: -max(len(suffix) for suffix in SUFFIXES if file.name.lower().endswith(suffix))]


def _names(folder: Path, files: Sequence[Path]) -> list[str]:
    """File stems; if one stands twice, paths inside the folder."""
    stems = [_stem(file) for file in files]
    if len(set(stems)) < len(stems):
        stems = [file.relative_to(folder).with_name(_stem(file)).as_posix() for file in files]
    twice = [name for name, count in Counter(stems).items() if count > 1]
    if twice:
        same = [file.name for file, stem in zip(files, stems, strict=True) if stem == twice[0]]
        raise TaskError(
            f"Folder {str(folder)!r}: the files {listed(same)} would be one task {twice[0]!r}; narrow pattern=."
        )
    return stems


def _groups(folder: Path, files: Mapping[str, Path], group: str | Mapping[str, str] | None) -> list[str | None]:
    if isinstance(group, Mapping):
        absent = [repr(name) for name in files if name not in group]
        if absent:
            raise TaskError(f"group= has no entry for {len(absent)} of {len(files)} tasks: {listed(absent)}; add them.")
        return [str(group[name]) for name in files]
    if group != SUBFOLDER:
        return [None] * len(files)
    parts = [file.relative_to(folder).parts for file in files.values()]
    loose = [place[0] for place in parts if len(place) == 1]
    if loose:
        raise TaskError(f"group={SUBFOLDER!r}: {listed(loose)} lie in no subfolder of {str(folder)!r}; move them.")
    return [place[0] for place in parts]


def _about(place: str, message: str) -> str:
    name = place.rsplit("/", 1)[-1]
    return f"{place}: {message.removeprefix(f'{name}: ').rstrip('.')}"


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        raise TaskError("the file is gone; write it again, or read the folder again.") from None
    return status.st_mtime_ns, status.st_size


def _read(path: Path, reading: _Reading) -> _Content:
    """Read and check one file."""
    view = open_frame(read_table(path, text=as_tuple(reading.group)))
    problems = check_columns(view.columns, target=reading.target, group=reading.group)
    if problems:
        raise TaskError("; ".join(problems))
    values, missing = target_values(reading.target, view[reading.target])
    if missing.any():
        problems.append(
            f"target {reading.target!r} is missing in {missing.sum()} of {len(missing)} rows (first: row "
            f"{np.argmax(missing)}, counted from 0); drop these rows or fill them in"
        )
    elif values.dtype.kind == "f" and np.isinf(values).any():
        rows = np.flatnonzero(np.isinf(values))
        problems.append(
            f"target {reading.target!r} is infinite in {len(rows)} of {len(values)} rows (first: row {rows[0]}, "
            "counted from 0); correct them"
        )
    elif values.dtype.kind == "U" and reading.kind != "classification":
        stray = stray_text(values.tolist())
        if stray:
            problems.append(f"target {reading.target!r} {stray}, or say kind='classification' if these are labels")
    group = None
    if reading.group is not None:
        found = list(dict.fromkeys(name_values(view[reading.group])))
        if len(found) > 1 or found[0] is None:
            shown = listed(["a missing cell" if name is None else repr(name) for name in found], 3)
            problems.append(f"group {reading.group!r} must hold one value in the whole file, but holds {shown}")
        group = found[0]
    aside = {reading.target, reading.group, *reading.drop}
    table, odd = read_features(view, [name for name in view.columns if name not in aside], reading.categorical)
    problems += odd
    if problems or table is None:
        raise TaskError("; ".join(problems))
    return _Content(table, values, group, tuple(view.columns))


def _load(file: _File) -> Task:
    """Read a task again, unless it was the last one read; the file must be as it was."""
    try:
        if _stamp(file.path) != file.stamp:
            raise TaskError("the file has changed since the task set was made; read the folder again.")
        if file.name not in file.last:
            content = _read(file.path, file.reading)
            y, kind = content.y, file.reading.kind
            if kind == "classification":
                y = as_labels(y, as_names=file.reading.as_names)
            task = Task(content.X, y, name=file.name, kind=kind, group=file.group)
            file.last.clear()
            file.last[file.name] = task
        return file.last[file.name]
    except TaskError as error:
        raise TaskError(f"Task {file.name!r}: {error}") from None
