"""Columns to arrays: impute, flag missing cells, scale, one-hot; fitted once on the training tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.tasks.table import Table

__all__ = ["Column", "Encoder"]

MAX_CATEGORIES = 100
"""A category column keeps at most this many of its most frequent values; the rest count as unseen."""

_CELLS = 1_000_000
"""Cells of number columns that are looked at together: a bound on memory."""


@dataclass(frozen=True, slots=True)
class Column:
    """How one column is encoded: numbers by ``center`` and ``scale``, categories by position in ``categories``."""

    name: str
    kind: Literal["number", "category"]
    center: float = 0.0
    scale: float = 1.0
    flag: bool = False
    categories: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Encoded columns that this one becomes."""
        return len(self.categories) if self.kind == "category" else 1 + self.flag


@final
class Encoder:
    """Turns raw rows into numbers, the same way for every task.

    Number columns are centred and scaled by the mean and standard deviation over all training rows, missing cells
    become the mean, and a flag column is added where training rows had missing cells. Categories become one-hot
    columns; an unseen category is all zeros. Columns that are constant inside a task are kept: between tasks they
    move the prior mean.

    Parameters
    ----------
    columns : sequence of Column
        One entry a raw column, in order.
    named : bool
        True if raw rows come as data frames and columns are matched by name, False if by position.

    Examples
    --------
    >>> X = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> encoder = Encoder.fit(X)
    >>> encoder.encode(X)
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    __slots__ = ("_center", "_flagged", "_lookup", "_plain", "_positions", "_scale", "columns", "named", "width")

    def __init__(self, columns: Sequence[Column], *, named: bool) -> None:
        self.columns = tuple(columns)
        self.named = named
        numbers = [column for column in self.columns if column.kind == "number"]
        self._plain = len(numbers) == len(self.columns)
        self._center = np.array([column.center for column in numbers])
        self._scale = np.array([column.scale for column in numbers])
        self._flagged = np.array([column.flag for column in numbers], dtype=bool)
        self._positions = {column.name: number for number, column in enumerate(self.columns)}
        self._lookup = [{value: code for code, value in enumerate(column.categories)} for column in self.columns]
        self.width = sum(column.width for column in self.columns)

    @classmethod
    def fit(cls, X: Float[np.ndarray, "row feature"] | Table, *, categorical: Sequence[str | int] = ()) -> Encoder:
        """Learn the encoding from all training rows.

        Parameters
        ----------
        X : array or Table
            All rows of all training tasks.
        categorical : sequence of column names or positions
            Number columns that are identifiers and not quantities.

        Raises
        ------
        TaskError
            If a column in ``categorical`` does not exist.
        """
        names = X.names if isinstance(X, Table) else tuple(f"x{number}" for number in range(X.shape[1]))
        wanted = {names[c] if isinstance(c, int) and -len(names) <= c < len(names) else c for c in categorical}
        unknown = sorted(str(name) for name in wanted - set(names))
        if unknown:
            raise TaskError(
                f"categorical={unknown[0]!r} is not a column; the columns are {', '.join(map(repr, names[:20]))}."
            )
        values = dict(zip(names, X.columns if isinstance(X, Table) else X.T, strict=True))
        numbers = [name for name, column in values.items() if name not in wanted and column.dtype != object]
        together = max(1, _CELLS // max(1, len(X)))
        known: dict[str, Column] = {}
        for start in range(0, len(numbers), together):
            known |= _fit_numbers(numbers[start : start + together], values)
        columns = [known[name] if name in known else _fit_categories(name, column) for name, column in values.items()]
        return cls(columns, named=isinstance(X, Table))

    @classmethod
    def uniform(cls, columns: int, *, center: float = 0.0, scale: float = 1.0) -> Encoder:
        """One centre and scale for all columns of an array, as pixels want it.

        Examples
        --------
        >>> Encoder.uniform(2, scale=255.0).encode(np.array([[0.0, 255.0]])).tolist()
        [[0.0, 1.0]]
        """
        return cls([Column(f"x{n}", "number", center, scale) for n in range(columns)], named=False)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Encoder:
        """Rebuild an encoder from what `spec` wrote."""
        columns = [Column(**{**entry, "categories": tuple(entry.get("categories", ()))}) for entry in spec["columns"]]
        return cls(columns, named=bool(spec["named"]))

    def spec(self) -> dict[str, Any]:
        """Everything about the encoder as plain JSON values."""
        return {"named": self.named, "columns": [_column_spec(column) for column in self.columns]}

    @property
    def names(self) -> tuple[str, ...]:
        """Raw column names, in order."""
        return tuple(column.name for column in self.columns)

    def raw_scale(self) -> Float[np.ndarray, " encoded"]:
        """What each encoded column is to be multiplied by to be in raw units again (flags and categories: one).

        Examples
        --------
        >>> Encoder.fit(np.array([[0.0], [4.0]])).raw_scale()
        array([2.])
        """
        scale: list[float] = []
        for column in self.columns:
            scale += [1.0] * column.width if column.kind == "category" else [column.scale] + [1.0] * column.flag
        return np.array(scale)

    def feature_names(self) -> tuple[str, ...]:
        """Names of the encoded columns, in order."""
        found: list[str] = []
        for column in self.columns:
            if column.kind == "category":
                found += [f"{column.name}={value}" for value in column.categories]
            else:
                found += [column.name] + ([f"{column.name} missing"] if column.flag else [])
        return tuple(found)

    def encode(
        self, X: Float[np.ndarray, "row feature"] | Table, *, task: str | None = None
    ) -> Float[np.ndarray, "row column"]:
        """Encode rows.

        Parameters
        ----------
        X : array or Table
            Raw rows. Tables are matched by name, in any order; arrays by position.
        task : str, optional
            Named in errors.

        Raises
        ------
        PriorMismatchError
            If columns are missing, unknown, of another number, or hold text where numbers were learned.
        """
        if self._plain and not isinstance(X, Table):
            self._check_count(X.shape[1], task)
            return self._encode_numbers(X)
        columns = self._aligned(X, task)
        if self._plain:
            return self._encode_numbers(np.column_stack(columns) if columns else np.empty((len(X), 0)))
        out = np.zeros((len(X), self.width))
        position = 0
        for column, values, lookup in zip(self.columns, columns, self._lookup, strict=True):
            if column.kind == "category":
                codes = np.array(
                    [-1 if value is None else lookup.get(value, -1) for value in _as_text(values)], dtype=np.int64
                )
                seen = np.flatnonzero(codes >= 0)
                out[seen, position + codes[seen]] = 1.0
            else:
                missing = np.isnan(values)
                out[:, position] = np.where(missing, 0.0, (values - column.center) / column.scale)
                if column.flag:
                    out[:, position + 1] = missing
            position += column.width
        return out

    def _encode_numbers(self, X: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row column"]:
        scaled = (X - self._center) / self._scale
        missing = np.isnan(scaled)
        if not self._flagged.any():
            if missing.any():
                scaled[missing] = 0.0
            return scaled
        scaled[missing] = 0.0
        out = np.empty((len(X), self.width))
        start = np.cumsum(1 + self._flagged) - (1 + self._flagged)
        out[:, start] = scaled
        out[:, start[self._flagged] + 1] = missing[:, self._flagged]
        return out

    def _aligned(self, X: Float[np.ndarray, "row feature"] | Table, task: str | None) -> list[np.ndarray]:
        where = f"Task {task!r}" if task else "X"
        if not isinstance(X, Table):
            self._check_count(X.shape[1], task)
            columns = [np.asarray(column) for column in X.T]
        elif not self.named:
            self._check_count(len(X.columns), task)
            columns = list(X.columns)
        else:
            missing = [name for name in self.names if name not in X.names]
            unknown = [name for name in X.names if name not in self._positions]
            if missing or unknown:
                said = [f"column {missing[0]!r} is missing"] if missing else []
                said += [f"column {unknown[0]!r} is unknown to the prior"] if unknown else []
                raise PriorMismatchError(
                    f"{where}: {' and '.join(said)}; the prior was learned on the columns {', '.join(self.names[:20])}: pass exactly "
                    "these (any order)."
                )
            columns = [X.column(name) for name in self.names] if X.names != self.names else list(X.columns)
        for column, values in zip(self.columns, columns, strict=True):
            if column.kind == "number" and values.dtype == object:
                present = [value for value in values if value is not None]
                if present:
                    raise PriorMismatchError(
                        f"{where}: column {column.name!r} held numbers when the prior was learned, but now holds text "
                        f"(for example {present[0]!r}); correct the cell."
                    )
        return [
            np.full(len(values), np.nan) if column.kind == "number" and values.dtype == object else values
            for column, values in zip(self.columns, columns, strict=True)
        ]

    def _check_count(self, count: int, task: str | None) -> None:
        if count != len(self.columns):
            where = f"Task {task!r}" if task else "X"
            raise PriorMismatchError(
                f"{where} has {count} features, but the prior was learned on {len(self.columns)} features; pass the same columns."
            )


def _fit_categories(name: str, values: np.ndarray) -> Column:
    counts = Counter(value for value in _as_text(values) if value is not None)
    kept = sorted(sorted(counts), key=lambda value: -counts[value])[:MAX_CATEGORIES]
    return Column(name, "category", categories=tuple(sorted(kept)))


def _fit_numbers(names: list[str], values: Mapping[str, np.ndarray]) -> dict[str, Column]:
    """Columns of numbers, all at once but for those with missing cells."""
    block = np.array([values[name] for name in names], dtype=np.float64)
    missing = np.isnan(block)
    flags: Any = missing.any(axis=1)
    center, spread = (
        (block.mean(axis=1), block.std(axis=1)) if block.size else (np.zeros(len(names)), np.zeros(len(names)))
    )
    for n in np.flatnonzero(flags):
        present = block[n, ~missing[n]]
        center[n], spread[n] = (present.mean(), present.std()) if len(present) else (0.0, 0.0)
    scale = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(center)), spread, 1.0)
    found = zip(names, center.tolist(), scale.tolist(), flags.tolist(), strict=True)
    return {name: Column(name, "number", *numbers) for name, *numbers in found}


def _as_text(values: np.ndarray) -> list[str | None]:
    """Category values as text; whole numbers without a decimal point, so that 3 and 3.0 are one category."""
    if values.dtype == object:
        return [None if value is None else str(value) for value in values]
    return [
        None if value != value else str(int(value)) if value == int(value) else str(value) for value in values.tolist()
    ]


def _column_spec(column: Column) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": column.name, "kind": column.kind}
    if column.kind == "category":
        return spec | {"categories": list(column.categories)}
    return spec | {"center": column.center, "scale": column.scale, "flag": column.flag}
