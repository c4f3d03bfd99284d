"""A small table of named columns: what every data frame becomes once, when it enters the library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError

__all__ = ["Table", "as_columns", "is_frame"]

_FRAME_MODULES = frozenset({"pandas", "polars", "pyarrow", "narwhals", "modin", "duckdb", "ibis", "cudf", "dask"})


@final
class Table:
    """Columns by name, each either numbers or categories.

    Number columns are ``float64`` with NaN for a missing cell, category columns are ``object`` with None for a
    missing cell. Tables are cheap to slice and are never changed in place.

    Parameters
    ----------
    names : sequence of str
        Column names, each once.
    columns : sequence of 1-d arrays
        One array a column, all of the same length, ``float64`` or ``object``.

    Raises
    ------
    TaskError
        If a name stands twice or the lengths differ.

    Examples
    --------
    >>> table = Table(["age", "sex"], [np.array([3.0, 4.0]), np.array(["f", "m"], dtype=object)])
    >>> table.shape, table.categorical
    ((2, 2), ('sex',))
    >>> table.take([1]).column("age")
    array([4.])
    """

    __slots__ = ("columns", "names")

    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]

    def __init__(self, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        self.names = tuple(names)
        self.columns = tuple(columns)
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise TaskError(f"Column names must be unique, but {_quoted(twice)} stand more than once; rename them.")
        if len(self.names) != len(self.columns):
            raise TaskError(f"A table needs one name a column: {len(self.names)} names, {len(self.columns)} columns.")
        if len({len(column) for column in self.columns}) > 1:
            raise TaskError("The columns of a table must have the same length.")

    @classmethod
    def from_frame(cls, frame: Any) -> Table:
        """Take over a frame of pandas, polars, pyarrow, or whatever else narwhals reads.

        Raises
        ------
        TaskError
            For a duplicate column name, a column that mixes numbers and text, or a column of dates or lists.
        """
        if isinstance(frame, Table):
            return frame
        fast = _all_number_pandas(frame)
        if fast is not None:
            return fast
        import narwhals as nw

        names = [str(name) for name in _column_names(frame)]
        if len(set(names)) != len(names):
            return cls(names, [np.empty(0)] * len(names))  # raises, naming the duplicates
        native = nw.from_native(frame)
        eager = native.collect() if isinstance(native, nw.LazyFrame) else native
        columns = [
            _column(name, eager.get_column(original)) for name, original in zip(names, eager.columns, strict=True)
        ]
        return cls(names, columns)

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def __repr__(self) -> str:
        return f"Table({len(self)} rows, columns {', '.join(self.names)})"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), len(self.columns)

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of the category columns."""
        return tuple(name for name, column in zip(self.names, self.columns, strict=True) if column.dtype == object)

    def column(self, name: str) -> np.ndarray:
        """Return one column.

        Raises
        ------
        TaskError
            If there is none of that name.
        """
        if name not in self.names:
            raise TaskError(f"There is no column {name!r}; the columns are {_quoted(self.names)}.")
        return self.columns[self.names.index(name)]

    def take(self, rows: Any) -> Table:
        """Rows by number, mask or slice, as a new table."""
        return _unchecked(self.names, tuple(column[rows] for column in self.columns))

    def select(self, names: Iterable[str]) -> Table:
        """Columns by name, in the order asked for."""
        wanted = list(names)
        return Table(wanted, [self.column(name) for name in wanted])

    def drop(self, names: Iterable[str]) -> Table:
        """All columns but the named ones."""
        gone = set(names)
        return self.select(name for name in self.names if name not in gone)

    def to_pandas(self) -> Any:
        """Return the same columns as a pandas data frame."""
        import pandas as pd

        return pd.DataFrame(dict(zip(self.names, self.columns, strict=True)))

    @staticmethod
    def concatenate(tables: Sequence[Table]) -> Table:
        """Stack tables with the same columns, matched by name.

        Raises
        ------
        TaskError
            If the column names differ or a column is numbers in one table and text in another.
        """
        first = tables[0]
        aligned = [table if table.names == first.names else table.select(first.names) for table in tables]
        parts: list[np.ndarray] = []
        for number, name in enumerate(first.names):
            pieces = [table.columns[number] for table in aligned]
            if len({piece.dtype == object for piece in pieces}) > 1:
                pieces = _same_kind(pieces)
            if len({piece.dtype == object for piece in pieces}) > 1:
                raise TaskError(
                    f"Column {name!r} holds numbers in some tables and text in others; make it one of the two."
                )
            parts.append(np.concatenate(pieces))
        return _unchecked(first.names, tuple(parts))

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        return zip(self.names, self.columns, strict=True)


def is_frame(X: Any) -> bool:
    """Tell whether ``X`` is a data frame (or a `Table`) rather than an array."""
    return isinstance(X, Table) or (hasattr(type(X), "columns") and type(X).__module__.split(".")[0] in _FRAME_MODULES)


def as_columns(X: Any, *, what: str = "X") -> Float[np.ndarray, "row feature"] | Table:
    """Frames become a `Table`, everything else a two-dimensional ``float64`` array (NaN is a missing cell).

    Raises
    ------
    TaskError
        If the array has not two dimensions or holds text or infinite numbers.
    """
    if is_frame(X):
        return Table.from_frame(X)
    array = np.asarray(X)
    if array.dtype.kind not in "fiub":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TaskError(
                f"{what} as an array must hold numbers, but {error}; pass categories in a data frame instead."
            ) from None
    if array.ndim != 2:
        raise TaskError(f"{what} must have two dimensions (row, feature), but has shape {array.shape}; reshape it.")
    array = array.astype(np.float64, copy=False)
    if np.isinf(array).any():
        row, column = np.argwhere(np.isinf(array))[0]
        raise TaskError(f"{what} must be finite or NaN, but row {row}, column {column} is infinite; replace it.")
    return array


def _unchecked(names: tuple[str, ...], columns: tuple[np.ndarray, ...]) -> Table:
    table = object.__new__(Table)
    table.names, table.columns = names, columns
    return table


def _same_kind(pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Turn pieces without any present cell, whose kind is unknown, into the kind of the others."""
    empty = [
        all(v is None for v in piece) if piece.dtype == object else bool(np.isnan(piece).all()) for piece in pieces
    ]
    kinds = {piece.dtype == object for piece, nothing in zip(pieces, empty, strict=True) if not nothing}
    filler = np.array([None], dtype=object) if kinds == {True} else np.array([np.nan])
    return [np.repeat(filler, len(piece)) if nothing else piece for piece, nothing in zip(pieces, empty, strict=True)]


def _quoted(names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


def _column_names(frame: Any) -> list[Any]:
    """Names as the frame's own library gives them; asked of the type, as a pandas column may bear any name."""
    if hasattr(type(frame), "collect_schema"):
        return list(frame.collect_schema().names())
    return list(frame.column_names if hasattr(type(frame), "column_names") else frame.columns)


def _all_number_pandas(frame: Any) -> Table | None:
    """Read a pandas frame of plain number columns in one block; everything else takes the general way."""
    if type(frame).__module__.split(".")[0] != "pandas" or not frame.columns.is_unique:
        return None
    if any(getattr(dtype, "kind", "O") not in "fiub" or not isinstance(dtype, np.dtype) for dtype in frame.dtypes):
        return None
    block = frame.to_numpy(dtype=np.float64)
    if np.isinf(block).any():
        return None
    return _unchecked(tuple(str(name) for name in frame.columns), tuple(block.T))


def _column(name: str, series: Any) -> np.ndarray:
    import narwhals as nw

    dtype = series.dtype
    if dtype.is_numeric() or dtype == nw.Boolean:
        return _finite(name, _missing_to_nan(series))
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return _text(_cells(series))
    if dtype == nw.Object or dtype == nw.Unknown:
        return _mixed(name, _cells(series))
    raise TaskError(
        f"Column {name!r} has type {dtype}, but a column must hold numbers or categories; turn it into numbers "
        "(for a date: days since the start) or drop it."
    )


def _missing_to_nan(series: Any) -> np.ndarray:
    import narwhals as nw

    if series.dtype == nw.Decimal:
        return np.array([np.nan if value is None else float(value) for value in _cells(series)], dtype=np.float64)
    values = series.cast(nw.Float64).to_numpy()
    return np.asarray(values, dtype=np.float64)


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise TaskError(f"Column {name!r} must be finite or missing, but row {row} is infinite; replace it.")
    return values


def _cells(series: Any) -> list[Any]:
    """Values of a column, with None for what its library counts as missing (None, NaN, NaT, NA)."""
    return [None if gone else value for value, gone in zip(series.to_list(), series.is_null().to_list(), strict=True)]


def _text(values: list[Any]) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = [None if value is None or value != value else str(value) for value in values]
    return column


def _mixed(name: str, values: list[Any]) -> np.ndarray:
    """Read a column whose library does not know its type: all numbers, all text, or an error that shows a bad cell."""
    present = [value for value in values if value is not None and value == value]
    text = [isinstance(value, str) for value in present]
    if all(text):
        return _text(values)
    if any(text):
        bad = next(value for value, is_text in zip(present, text, strict=True) if is_text)
        raise TaskError(
            f"Column {name!r} mixes numbers and text (for example {bad!r}); correct the cell, or make the column all text."
        )
    try:
        numbers = np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError):
        raise TaskError(
            f"Column {name!r} holds {type(present[0]).__name__} objects, but must hold numbers or categories; convert it."
        ) from None
    return _finite(name, numbers)
