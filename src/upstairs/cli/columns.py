"""What is in a table, column by column, and what looks odd about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upstairs.errors import TaskError
from upstairs.tasks.encoder import MAX_CATEGORIES
from upstairs.tasks.table import Table

__all__ = ["ColumnFacts", "facts_of", "facts_of_table", "suggest", "suspicions"]

_CODE_NAME = re.compile(
    r"(^|[_\s.-])(id|ids|code|no|nr|num|number|zip|postcode|plz|key|index|uid|uuid|pin)$", re.IGNORECASE
)
_TARGET_NAME = re.compile(
    r"^(y|target|label|class|outcome|response|score|value|result)$|(_target|_label|_score)$", re.IGNORECASE
)
_FEW = 12
_ENOUGH = 20


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column: its type in words, cells, and the values themselves (None if it cannot be used as it is)."""

    name: str
    type: str
    rows: int
    missing: int
    distinct: int
    shown: str
    values: np.ndarray | None = None
    trouble: str = ""


def facts_of(frame: Any) -> list[ColumnFacts]:
    """Look at each column of a pyarrow table by itself, so that one that cannot be read does not hide the others."""
    found = []
    for name in frame.schema.names:
        try:
            found.append(_facts(name, Table.from_frame(frame.select([name])).columns[0]))
        except TaskError as error:
            column = frame.column(name)
            kind = str(column.type)
            found.append(ColumnFacts(name, kind, len(column), column.null_count, 0, "", trouble=str(error)))
    return found


def facts_of_table(table: Table) -> list[ColumnFacts]:
    """Look at the columns of a table that is read already."""
    return [_facts(name, values) for name, values in table]


def _facts(name: str, values: np.ndarray) -> ColumnFacts:
    if values.dtype == object:
        present = [value for value in values.tolist() if value is not None]
        distinct, counts = (
            np.unique(np.array(present, dtype=str), return_counts=True) if present else (np.empty(0, str), np.empty(0))
        )
        common = [str(word) for word in distinct[np.argsort(-counts, kind="stable")][:3]]
        more = ", ..." if len(distinct) > 3 else ""
        kind = "text" if present else "empty"
        return ColumnFacts(
            name, kind, len(values), len(values) - len(present), len(distinct), ", ".join(common) + more, values
        )
    present = values[~np.isnan(values)]
    distinct = np.unique(present)
    kind = (
        "whole numbers"
        if len(present) and np.all(present == np.round(present))
        else "numbers"
        if len(present)
        else "empty"
    )
    shown = f"{distinct[0]:g} to {distinct[-1]:g}" if len(distinct) else ""
    return ColumnFacts(name, kind, len(values), len(values) - len(present), len(distinct), shown, values)


def suspicions(
    facts: Sequence[ColumnFacts], *, target: str | None, aside: Sequence[str] = (), categorical: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Name columns that look odd, and say what to do.

    Parameters
    ----------
    facts
        All columns.
    target
        The column to predict.
    aside
        Columns that are not features (task, group, dropped).
    categorical
        Columns that are known to be codes.

    Returns
    -------
    list of (column, sentence)
    """
    goal = next((column for column in facts if column.name == target), None)
    found: list[tuple[str, str]] = []
    for column in facts:
        if column.name == target or column.name in aside:
            continue
        found += [(column.name, said) for said in _odd(column, column.name in categorical)]
        if goal is not None and column.distinct > 1 and _same(column, goal):
            found.append(
                (
                    column.name,
                    f"says the same as the target {goal.name!r} in every row: --drop it, unless it is known before",
                )
            )
    return found


def _odd(column: ColumnFacts, known: bool) -> list[str]:
    present = column.rows - column.missing
    if column.trouble:
        return [f"cannot be used as it is: {column.trouble.rstrip('.')}"]
    if present == 0:
        return ["has no value: --drop it"]
    said = []
    if column.distinct == 1:
        said.append("is constant, so it says nothing: --drop it")
    elif 2 * column.missing > column.rows:
        said.append(f"is missing in {100 * column.missing / column.rows:.0f} % of rows")
    if column.type == "whole numbers" and not known and column.distinct > 2:
        said += _codes(column)
    if column.type == "text" and column.distinct == present >= _ENOUGH:
        said.append("is different in every row, so it says nothing about others: --drop it")
    elif column.type == "text" and column.distinct > MAX_CATEGORIES:
        said.append(
            f"has {column.distinct} values, of which the {MAX_CATEGORIES} most frequent count: --drop it, or make them fewer"
        )
    return said


def _codes(column: ColumnFacts) -> list[str]:
    if column.distinct == column.rows >= _ENOUGH:
        return ["is a different whole number in every row, like a row number: --drop it if it is one"]
    if _CODE_NAME.search(column.name):
        if column.distinct > MAX_CATEGORIES:
            return [f"looks like an identifier ({column.distinct} whole numbers): --drop it if it is one"]
        return [
            f"looks like an identifier ({column.distinct} whole numbers): --categorical {column.name} if these are codes"
        ]
    if column.distinct <= _FEW:
        return [
            f"holds only {column.distinct} whole numbers: --categorical {column.name} if these are codes, not amounts"
        ]
    return []


def _same(column: ColumnFacts, goal: ColumnFacts) -> bool:
    """Tell whether a column and the target can be computed from each other by a line, or name by name."""
    left, right = column.values, goal.values
    if left is None or right is None or len(left) != len(right):
        return False
    if left.dtype != object and right.dtype != object:
        both = ~(np.isnan(left) | np.isnan(right))
        if both.sum() < 3 or np.ptp(left[both]) == 0 or np.ptp(right[both]) == 0:
            return False
        return bool(abs(np.corrcoef(left[both], right[both])[0, 1]) > 1 - 1e-9)
    if 2 * max(column.distinct, goal.distinct) > column.rows:  # names that hardly repeat always go one to one
        return False
    pairs = {(str(a), str(b)) for a, b in zip(left.tolist(), right.tolist(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def suggest(facts: Sequence[ColumnFacts]) -> tuple[list[str], list[str]]:
    """Columns that could name the task, and columns that could be the target, the likeliest first."""
    tasks, targets = [], []
    for place, column in enumerate(facts):
        if column.trouble or column.missing == column.rows:
            continue
        each = column.rows / max(column.distinct, 1)
        if column.type in ("text", "whole numbers") and column.missing == 0 and column.distinct >= 5 and each >= 2:
            points = (
                2.0 * bool(_CODE_NAME.search(column.name)) + 1.0 * (column.type == "text") + 1.0 * (3 <= each <= 200)
            )
            points += 1.5 * bool(
                re.search(r"task|patient|subject|shop|store|site|school|user|machine|sensor", column.name, re.I)
            )
            tasks.append((-points, place, column.name))
        if column.distinct >= 2:
            points = (
                3.0 * bool(_TARGET_NAME.search(column.name))
                + 1.0 * (column.type == "numbers")
                + 1.0 * (place == len(facts) - 1)
            )
            points -= 2.0 * bool(_CODE_NAME.search(column.name))
            targets.append((-points, -place, column.name))
    first = [name for *_, name in sorted(tasks)[:3]]
    return first, [name for *_, name in sorted(targets) if name != (first[0] if first else None)][:3]
