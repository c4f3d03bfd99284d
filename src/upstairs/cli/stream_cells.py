"""Cells of a stream as numbers, categories and labels; what a column is was decided before, by a prior or by the first rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.tasks.readers_common import check_columns, listed, raise_together
from upstairs.tasks.table import Table
from upstairs.tasks.task import infer_kind

__all__ = ["Features", "Labels"]

_TRUTH = {"true": 1.0, "false": 0.0}


@final
@dataclass(frozen=True, slots=True)
class Features:
    """Columns that a learner takes, in its order.

    Attributes
    ----------
    names : tuple of str
    categories : mapping from a column to its known values
        Other columns hold numbers.
    form : {"table", "frame", "array"}
        What the learner is given.
    """

    names: tuple[str, ...]
    categories: Mapping[str, Sequence[str]]
    form: Literal["table", "frame", "array"]

    @classmethod
    def of_encoder(cls, spec: Mapping[str, Any], there: Sequence[str], target: str, drop: Sequence[str]) -> Features:
        """Take the columns of a prior; of one that was learned on arrays, all columns but the target, in their order."""
        free = [name for name in there if name != target and name not in drop]
        if not spec["named"]:
            return cls._counted(free, len(spec["columns"]), "array")
        names = [column["name"] for column in spec["columns"]]
        raise_together("The stream", check_columns(there, prior=names))
        known = {column["name"]: column["categories"] for column in spec["columns"] if column["kind"] == "category"}
        return cls(tuple(names), known, "table")

    @classmethod
    def of_model(cls, model: Any, there: Sequence[str], target: str, drop: Sequence[str]) -> Features:
        """Take the columns that a model has learned from; without one, all but the target."""
        free = [name for name in there if name != target and name not in drop]
        if not free:
            raise TaskError(f"The stream has no column beside {target!r} to predict it from; give it more columns.")
        names = getattr(model, "feature_names_in_", None)
        if names is not None:
            raise_together("The stream", check_columns(there, prior=[str(name) for name in names]))
            return cls(tuple(str(name) for name in names), {}, "frame")
        if hasattr(model, "n_features_in_"):
            return cls._counted(free, model.n_features_in_, "frame" if hasattr(type(model), "world_") else "array")
        return cls(tuple(free), {}, "frame")

    @classmethod
    def _counted(cls, free: Sequence[str], count: int, form: Literal["frame", "array"]) -> Features:
        if len(free) != count:
            raise TaskError(
                f"The stream has {len(free)} columns beside the target ({listed(free, 8)}), but the learner knows {count} without "
                "names; leave others out with --drop."
            )
        return cls(tuple(free), {}, form)

    def read(self, cells: Mapping[str, Sequence[Any]], first: int) -> Any:
        """Rows as the learner takes them.

        Parameters
        ----------
        cells
            By column.
        first
            Number of the first row, for messages.
        """
        columns = [
            _texts(cells[name], self.categories[name])
            if name in self.categories
            else _numbers(f"column {name!r}", cells[name], first, "leave the cell empty, or the column out with --drop")
            for name in self.names
        ]
        if self.form == "table":
            return Table(self.names, columns)
        if self.form == "array":
            return np.column_stack(columns)
        import pyarrow as pa

        return pa.table(dict(zip(self.names, columns, strict=True)))


@final
@dataclass(frozen=True, slots=True)
class Labels:
    """What a target is: a number, or one of some labels.

    Attributes
    ----------
    target : str
        Its column.
    kind : {"regression", "classification"}, optional
        None: not known before the first rows with a target.
    numbers : bool, optional
        Whether labels are numbers; else they are text. None: not known yet.
    known : tuple, optional
        Labels that a prior knows; None: any.
    """

    target: str
    kind: str | None = None
    numbers: bool | None = None
    known: tuple[Any, ...] | None = None

    def settled(self, cells: Sequence[Any]) -> Labels:
        """Decide by the first cells that are not empty what the target is, but for what is known already."""
        present = [cell for cell in cells if cell is not None]
        decided = self.kind == "regression" or self.known is not None or self.numbers is not None
        if decided or not present:
            return self
        read = [_number(cell) for cell in present]
        truth = any(isinstance(cell, bool) or str(cell).lower() in _TRUTH for cell in present)
        if truth or not all(value is not None for value in read):
            return replace(self, kind="classification", numbers=False)
        return replace(self, kind=self.kind or infer_kind(np.array(read, dtype=np.float64)), numbers=True)

    def read(self, cells: Sequence[Any], first: int) -> list[Any]:
        """Targets, None where there is none."""
        if self.kind == "regression":
            values = _numbers(f"target {self.target!r}", cells, first, "leave the cell empty")
            return [None if value != value else value for value in values.tolist()]
        if self.known is None:
            return [None if cell is None else self._free(cell, first + place) for place, cell in enumerate(cells)]
        names = {str(label).lower() if isinstance(label, bool) else str(label): label for label in self.known}
        numbers = {float(label): label for label in self.known if isinstance(label, int | float)}
        return [
            None if cell is None else self._one_of(cell, names, numbers, first + place)
            for place, cell in enumerate(cells)
        ]

    def _one_of(self, cell: Any, names: Mapping[str, Any], values: Mapping[float, Any], row: int) -> Any:
        found = names.get(str(cell).lower() if isinstance(cell, bool) else str(cell))
        number = _number(cell) if found is None and values else None
        found = values.get(number) if number is not None else found
        if found is None:
            raise TaskError(
                f"target {self.target!r} must be one of the labels that the prior knows ({listed(list(names), 8)}), but is {str(cell)!r} "
                f"in row {row}; leave the cell empty, or learn a prior that knows it."
            )
        return found

    def _free(self, cell: Any, row: int) -> Any:
        if not self.numbers:
            return str(cell).lower() if isinstance(cell, bool) else str(cell)
        number = _number(cell)
        if number is None:
            raise TaskError(
                f"target {self.target!r} holds numbers at first, but {str(cell)!r} in row {row}; make labels the same all along."
            )
        return int(number) if number == int(number) else number


def _number(cell: Any) -> float | None:
    """Read a number or truth value; None if it is neither, or not finite."""
    if isinstance(cell, str):
        if cell.lower() in _TRUTH:
            return _TRUTH[cell.lower()]
        if "_" in cell:
            return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _numbers(what: str, cells: Sequence[Any], first: int, remedy: str) -> Float[np.ndarray, " row"]:
    found = np.full(len(cells), np.nan)
    for place, cell in enumerate(cells):
        if cell is None or cell != cell or (isinstance(cell, str) and cell.lower() == "nan"):
            continue
        value = _number(cell)
        if value is None:
            raise TaskError(f"{what} must hold finite numbers, but has {str(cell)!r} in row {first + place}; {remedy}.")
        found[place] = value
    return found


def _texts(cells: Sequence[Any], known: Sequence[str]) -> np.ndarray:
    """Categories as they were learned: whole numbers without a decimal point."""
    values = set(known)
    found = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        text = None if cell is None or cell != cell else str(cell)
        if text is not None and text not in values:
            number = _number(cell)
            whole = number is not None and number == int(number)
            text = str(int(number)) if whole and str(int(number)) in values else text  # type: ignore[arg-type]
        found[place] = text
    return found
