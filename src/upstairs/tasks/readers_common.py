"""What all readers share: find columns, read names, targets and features, decide the kind, report problems."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Int, Shaped

from upstairs.errors import TaskError
from upstairs.tasks.table import Table, is_frame
from upstairs.tasks.task import Kind, infer_kind

__all__ = [
    "Cells",
    "array_target",
    "as_labels",
    "as_tuple",
    "check_choices",
    "check_columns",
    "common_kind",
    "factorise",
    "is_missing_word",
    "is_stray",
    "listed",
    "missing_cells",
    "name_values",
    "odd_numbers",
    "open_frame",
    "raise_together",
    "read_features",
    "stray_message",
    "stray_text",
    "target_values",
]

Cells: TypeAlias = tuple[Shaped[np.ndarray, " row"], Bool[np.ndarray, " row"]]
"""Values of a target column and where they are missing."""

_MISSING_WORDS = frozenset({"na", "n/a", "#n/a", "nan", "null", "none"})
_INDEX_NAMES = ("", "Unnamed: 0", "__index_level_0__")


def as_tuple(value: Any) -> tuple[str, ...]:
    """Column names from one name or several."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (str(value),)
    return tuple(str(entry) for entry in value)


def listed(items: Sequence[str], limit: int = 20) -> str:
    """Join items for a message, the first ``limit`` of them."""
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")


def raise_together(what: str, problems: Sequence[str]) -> None:
    """Raise one error that lists all problems; with none, do nothing."""
    if len(problems) == 1:
        raise TaskError(f"{what}: {problems[0]}")
    if problems:
        raise TaskError(f"{what}:" + "".join(f"\n- {problem}" for problem in problems))


def check_choices(kind: Any, labels: Any) -> None:
    """Refuse words that ``kind`` and ``labels`` do not know."""
    if kind not in (None, "regression", "classification"):
        raise TaskError(f"kind must be 'regression', 'classification' or None, but is {kind!r}.")
    if labels not in (None, "shared", "own"):
        raise TaskError(f"labels must be 'shared', 'own' or None, but is {labels!r}.")


def open_frame(frame: Any) -> Any:
    """Return an eager narwhals view of a frame, with unique text column names."""
    if not is_frame(frame) or isinstance(frame, Table):
        raise TaskError(
            f"frame must be a data frame of pandas, polars or pyarrow, but is a {type(frame).__name__}; "
            "for arrays use TaskSet.from_arrays, for files TaskSet.from_folder."
        )
    import narwhals as nw

    library = type(frame).__module__.split(".")[0]
    if library in ("pandas", "pyarrow"):
        names = [str(name) for name in (frame.columns if library == "pandas" else frame.schema.names)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            shown = listed([repr(name) for name in twice])
            raise TaskError(f"Column names must be unique, but {shown} stand more than once; rename them.")
        if library == "pandas" and names != list(frame.columns):
            frame = frame.set_axis(names, axis=1)
    native = nw.from_native(frame)
    return native.collect() if isinstance(native, nw.LazyFrame) else native


def check_columns(columns: Sequence[str], **wanted: Any) -> list[str]:
    """One problem for each column that an argument names and that is not there, with the closest name."""
    problems = []
    for argument, names in wanted.items():
        for name in as_tuple(names):
            if name not in columns:
                close = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], n=1, cutoff=0.6)
                meant = [column for column in columns if close and column.lower() == close[0]]
                there = listed([repr(column) for column in columns], 8)
                hint = f"did you mean {meant[0]!r}?" if meant else f"the columns are {there}"
                problems.append(f"there is no column {name!r} ({argument}=); {hint}")
    return problems


def name_values(series: Any) -> list[str | None]:
    """Cells as names: text as it is, whole numbers without a decimal point, missing cells None."""
    found: dict[Any, str] = {}
    names: list[str | None] = []
    try:
        for value, gone in zip(series.to_list(), missing_cells(series).tolist(), strict=True):
            if gone:
                names.append(None)
                continue
            name = found.get(value)
            if name is None:
                name = found[value] = _name(value)
            names.append(name)
    except TypeError:
        raise TaskError(f"column {series.name!r} has type {series.dtype}, but names must be text or numbers.") from None
    return names


def _name(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def factorise(names: Iterable[str | None]) -> tuple[Int[np.ndarray, " row"], list[str | None]]:
    """Give names numbers, in the order in which they first occur."""
    numbers: dict[str | None, int] = {}
    codes = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return codes, list(numbers)


def missing_cells(series: Any) -> Bool[np.ndarray, " row"]:
    """Tell where a column has no value: null, or NaN among numbers."""
    gone = np.array(series.is_null().to_numpy(), dtype=bool)
    if series.dtype.is_float():
        gone |= np.isnan(np.asarray(series.to_numpy(), dtype=np.float64))
    return gone


def target_values(name: str, series: Any) -> Cells:
    """Read a target: whole numbers, numbers, truth values or text, whatever the column holds.

    Raises
    ------
    TaskError
        If the column mixes types, or holds dates or lists.
    """
    import narwhals as nw

    missing, dtype = missing_cells(series), series.dtype
    if dtype.is_integer() and not missing.any():
        return series.to_numpy(), missing
    if dtype.is_numeric() and dtype != nw.Decimal:
        if dtype.is_integer():
            return series.fill_null(0).to_numpy(), missing
        return np.asarray(series.to_numpy(), dtype=np.float64), missing
    readable = (nw.String, nw.Categorical, nw.Enum, nw.Boolean, nw.Decimal, nw.Object, nw.Unknown)
    if not any(dtype == known for known in readable):
        raise TaskError(f"target {name!r} has type {dtype}, but must hold numbers or labels; convert it.")
    cells = series.to_list()
    if dtype in (nw.Categorical, nw.Enum):
        cells = [cell if gone else str(cell) for cell, gone in zip(cells, missing, strict=True)]
    return _sorted_out(name, cells, missing)


def _sorted_out(name: str, cells: list[Any], missing: Bool[np.ndarray, " row"]) -> Cells:
    """Give cells of any kind one type."""
    present = [cell for cell, gone in zip(cells, missing, strict=True) if not gone]
    filled: list[Any]
    if present and all(isinstance(cell, bool | np.bool_) for cell in present):
        filled = [False if gone else bool(cell) for cell, gone in zip(cells, missing, strict=True)]
        return np.array(filled, dtype=bool), missing
    text = [isinstance(cell, str) for cell in present]
    if present and all(text):
        return np.array(["" if gone else str(cell) for cell, gone in zip(cells, missing, strict=True)]), missing
    if any(text):
        example = present[text.index(True)]
        raise TaskError(f"target {name!r} mixes numbers and text (for example {example!r}); make it one of the two.")
    try:
        filled = [np.nan if gone else float(cell) for cell, gone in zip(cells, missing, strict=True)]
    except (TypeError, ValueError):
        what = type(present[0]).__name__
        raise TaskError(f"target {name!r} holds {what} objects, but must hold numbers or labels; convert it.") from None
    return np.array(filled, dtype=np.float64), missing


def array_target(name: str, y: Any) -> Cells:
    """Read a target array of any type; None and NaN are missing."""
    try:
        array = np.asarray(y)
    except ValueError:
        raise TaskError("y must be one value a row, but its entries have different lengths.") from None
    if array.ndim != 1:
        raise TaskError(
            f"y must have one dimension (row,), but has shape {array.shape}; for several targets pass one X and ys of "
            "shape (row, target)."
        )
    if array.dtype == object:
        flat = array.tolist()
        gone = np.array([_is_missing(cell) for cell in flat], dtype=bool)
        return _sorted_out(name, flat, gone)
    missing = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
    return array, missing


def _is_missing(cell: Any) -> bool:
    return cell is None or type(cell).__name__ == "NAType" or bool(cell != cell)


def row_number(row: int) -> str:
    """Say which row is meant."""
    return f"row {row}, counted from 0"


def read_features(
    view: Any, names: Sequence[str], categorical: Sequence[str], place: Callable[[int], str] = row_number
) -> tuple[Table | None, list[str]]:
    """Take over feature columns and look at each for cells that do not belong.

    Returns
    -------
    table, problems : Table or None, list of str
        The table is None if a column cannot be read.
    """
    problems = [
        f"column {name!r} looks like the row numbers of a data frame; name it in drop=, or write it without an index"
        for name in names
        if name in _INDEX_NAMES
    ]
    if not names:
        return None, [*problems, "no feature column is left beside the task, target, group and dropped columns"]
    try:
        table = Table.from_frame(view.select(list(names)).to_native())
    except TaskError:
        return None, problems + [problem for name in names for problem in _column_problem(view, name)]
    columns = list(table.columns)
    for number, (name, values) in enumerate(table):
        if name in categorical:
            if values.dtype != object:
                columns[number] = _as_categories(values)
        elif values.dtype == object:
            stray = stray_text(values, place)
            if stray:
                problems.append(f"column {name!r} {stray}, or name it in categorical=")
    return Table(table.names, columns), problems


def _column_problem(view: Any, name: str) -> list[str]:
    try:
        Table.from_frame(view.select([name]).to_native())
    except TaskError as error:
        message = str(error).rstrip(".")
        return [message[0].lower() + message[1:]]
    return []


def _as_categories(values: np.ndarray) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = [None if value != value else _name(value) for value in values.tolist()]
    return column


def stray_text(values: Iterable[str | None], place: Callable[[int], str] = row_number) -> str | None:
    """Say what is wrong with a text column that is a number column but for some cells; None if nothing is.

    That is so if more than nine in ten present cells are numbers, or at least half of them and all others are words
    for "missing" such as NA.
    """
    listed_values = list(values)
    counts = Counter(value for value in listed_values if value is not None)
    odd = odd_numbers(counts)
    words = all(is_missing_word(value) for value in odd)
    if not is_stray(sum(counts.values()), sum(counts[value] for value in odd), words=words):
        return None
    row = next(number for number, value in enumerate(listed_values) if value in odd)
    strays, present = sum(counts[value] for value in odd), sum(counts.values())
    return stray_message(present, strays, listed_values[row], place(row))


def odd_numbers(values: Iterable[str]) -> set[str]:
    """Texts that are not a number."""
    return {value for value in values if not _is_number(value)}


def is_missing_word(value: str) -> bool:
    """Tell whether a text is a word for "missing", such as NA."""
    return value.strip().lower() in _MISSING_WORDS


def is_stray(present: int, strays: int, *, words: bool) -> bool:
    """Apply the rule of `stray_text` to counts; ``words``: all cells that are not numbers are words for "missing"."""
    return 0 < strays < present and (strays < 0.1 * present or (words and strays <= 0.5 * present))


def stray_message(present: int, strays: int, example: str | None, place: str) -> str:
    """Say what `stray_text` found."""
    return (
        f"holds numbers but for {strays} of {present} cells (first: {example!r} in {place}); "
        "correct them, leave a missing cell empty"
    )


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


def common_kind(targets: Mapping[str, np.ndarray], kind: Kind | None) -> tuple[Kind, bool]:
    """Decide the one kind of several targets from their distinct present values.

    Returns
    -------
    kind, as_names : Kind, bool
        ``as_names`` is true if labels must become text because some are text and some are numbers.

    Raises
    ------
    TaskError
        If some targets are text and others numbers, and ``kind`` does not say that all are labels.
    """
    shown = {name: values for name, values in targets.items() if len(values)}
    text = [name for name, values in shown.items() if values.dtype.kind not in "fiub"]
    numbers = [name for name, values in shown.items() if values.dtype.kind in "fiub"]
    if kind == "regression" and text:
        raise TaskError(
            f"kind='regression' needs numbers as targets, but {listed([repr(n) for n in text])} hold text (for example "
            f"{shown[text[0]][0]!r}); say kind='classification', or correct the cells."
        )
    if text and numbers and kind is None:
        raise TaskError(
            f"Tasks must be of one kind, but the target is text in {listed([repr(n) for n in text])} and numbers in "
            f"{listed([repr(n) for n in numbers])}; say kind='classification' if all are labels, or read two sets."
        )
    if kind is None:
        distinct = np.unique(np.concatenate(list(shown.values()))) if shown else np.empty(0)
        kind = infer_kind(distinct)
    return kind, bool(text and numbers)


def as_labels(values: np.ndarray, *, as_names: bool) -> np.ndarray:
    """Labels in one type: whole numbers as integers, and all as text where other tasks have text."""
    if values.dtype.kind == "f" and np.isfinite(values).all() and np.all(values == np.round(values)):
        values = values.astype(np.int64)
    if not as_names or values.dtype.kind == "U":
        return values
    return np.array([_name(value) for value in values.tolist()])
