"""Streams of other libraries as chunks (X, y): data sets of river, and readers that give one frame after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Shaped

from upstairs.errors import TaskError
from upstairs.online.stream import chunks
from upstairs.tasks.readers_common import check_columns, listed

__all__ = ["frame_chunks", "river_chunks"]


def river_chunks(
    dataset: Iterable[tuple[Mapping[Any, Any], Any]],
    rows: int = 10,
    *,
    columns: Sequence[Any] | None = None,
    limit: int | None = None,
) -> Iterator[tuple[Any, Shaped[np.ndarray, " row"]]]:
    """Gather pairs of a dictionary and a target, as river's data sets give them, into chunks.

    Parameters
    ----------
    dataset : iterable of (dict, target)
        Of ``river.datasets`` or ``river.stream``, or any other; read once, as far as chunks are asked for.
    rows : int
        Of a chunk.
    columns : sequence, optional
        Keys that become columns, in this order; others are left out. None: all keys of the first chunk, and then a key that is new
        is an error. A key that a row lacks is a missing cell.
    limit : int, optional
        Rows that are read at most.

    Yields
    ------
    X : pyarrow table
        Columns of numbers (also of truth values) or of text.
    y : array of shape (row,)
        Targets that are None are missing.

    Raises
    ------
    TaskError
        For a key that is new, a column that is neither numbers nor text, or several targets.

    Examples
    --------
    >>> pairs = [({"a": 1.0, "b": "x"}, 0), ({"a": 2.0}, 1), ({"b": "y"}, 1)]
    >>> for X, y in river_chunks(pairs, 2):
    ...     print(X.to_pydict(), y)
    {'a': [1.0, 2.0], 'b': ['x', None]} [0 1]
    {'a': [None], 'b': ['y']} [1]
    """
    if rows < 1 or (limit is not None and limit < 1):
        raise TaskError(f"rows={rows} and limit={limit} must be at least 1.")
    keys = None if columns is None else list(columns)
    chosen = keys is not None
    kinds: dict[Any, type] = {}
    pairs, seen = iter(dataset) if limit is None else islice(dataset, limit), 0
    while pairs_now := list(islice(pairs, rows)):
        if keys is None:
            keys = list(dict.fromkeys(key for x, _ in pairs_now for key in x))
        _check(pairs_now, keys, chosen, seen)
        yield _table({key: [x.get(key) for x, _ in pairs_now] for key in keys}, kinds), _targets(pairs_now)
        seen += len(pairs_now)


def frame_chunks(
    frames: Iterable[Any], target: str, rows: int | None = None, *, drop: Sequence[str] = ()
) -> Iterator[tuple[Any, Shaped[np.ndarray, " row"]]]:
    """Take the target out of frames that come one after another, such as ``pandas.read_csv(path, chunksize=1000)``.

    Parameters
    ----------
    frames : iterable of data frames
        Of pandas, polars or pyarrow (also record batches).
    target : str
        Column of the targets.
    rows : int, optional
        Cut every frame into chunks of so many rows. None: a frame is a chunk.
    drop : sequence of str
        Columns to leave out.

    Raises
    ------
    TaskError
        For a column that is absent.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [0, 1, 0]})
    >>> [(list(X.columns), y.tolist()) for X, y in frame_chunks([frame], "y", 2)]
    [(['x'], [0, 1]), (['x'], [0])]
    """
    import narwhals as nw

    for number, frame in enumerate(frames):
        if type(frame).__name__ == "RecordBatch":
            frame = _of_batch(frame)
        view = nw.from_native(frame, eager_only=True)
        problems = check_columns(view.columns, target=target, drop=drop)
        if problems:
            raise TaskError(f"frame {number} of the stream: {problems[0]}.")
        X = view.drop([target, *drop])
        y = np.array(view[target].to_list() if view[target].is_null().any() else view[target].to_numpy())
        for places, part in chunks(np.arange(len(y)), y, rows or max(len(y), 1)):
            yield X[places.tolist()].to_native(), part


def _of_batch(batch: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def _check(pairs: list[tuple[Mapping[Any, Any], Any]], keys: list[Any], chosen: bool, seen: int) -> None:
    known = set(keys)
    for place, (x, _) in enumerate(pairs):
        new = [] if chosen else [key for key in x if key not in known]
        if new:
            raise TaskError(
                f"row {seen + place} has the key {new[0]!r}, which no row of the first chunk has ({listed([*map(str, keys)], 8)}); "
                "name the keys to use in columns=."
            )


def _table(cells: dict[Any, list[Any]], kinds: dict[Any, type]) -> Any:
    """Columns of one type all along the stream: numbers or text, whatever the first present cell is."""
    import pyarrow as pa

    columns = {}
    for key, values in cells.items():
        present = [value for value in values if value is not None]
        if present:
            kinds.setdefault(key, str if isinstance(present[0], str) else float)
        kind = kinds.get(key, float)
        odd = [value for value in present if isinstance(value, str) != (kind is str)]
        try:
            plain = [None if value is None else kind(value) for value in ([] if odd else values)]
        except (TypeError, ValueError):
            odd = present
        if odd:
            raise TaskError(
                f"column {key!r} must hold numbers or text, the same all along, but has {odd[0]!r}; convert it, or leave it out with "
                "columns=."
            )
        columns[str(key)] = pa.array(plain, type=pa.string() if kind is str else pa.float64())
    return pa.table(columns)


def _targets(pairs: list[tuple[Mapping[Any, Any], Any]]) -> Shaped[np.ndarray, " row"]:
    given = [y for _, y in pairs]
    if any(isinstance(y, Mapping) for y in given):
        raise TaskError("y holds several targets a row; choose one: ((x, y['name']) for x, y in dataset).")
    if any(y is None for y in given):
        numbers = all(y is None or (isinstance(y, int | float) and not isinstance(y, bool)) for y in given)
        return np.array([np.nan if y is None else y for y in given]) if numbers else np.array(given, dtype=object)
    return np.array(given)
