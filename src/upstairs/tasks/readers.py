"""Frames and arrays to tasks; every bad task is reported at once. Files are read in ``readers_files``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from upstairs.errors import TaskError
from upstairs.tasks.readers_common import (
    Cells,
    array_target,
    as_labels,
    as_tuple,
    check_choices,
    check_columns,
    common_kind,
    factorise,
    listed,
    missing_cells,
    name_values,
    open_frame,
    raise_together,
    read_features,
    stray_text,
    target_values,
)
from upstairs.tasks.readers_files import from_folder, read_table
from upstairs.tasks.table import Table, is_frame
from upstairs.tasks.task import Kind, Labels, Task, infer_kind
from upstairs.tasks.taskset import TaskSet

__all__ = ["check_arguments", "from_arrays", "from_folder", "from_frame", "read_table", "wide_kind"]


def from_frame(
    frame: Any,
    *,
    task: str | None,
    target: str | Sequence[str],
    group: str | None = None,
    kind: Kind | None = None,
    categorical: Sequence[str] = (),
    labels: Labels | None = None,
    order: str | None = None,
    drop: Sequence[str] = (),
) -> TaskSet:
    """Read one frame with the rows of all tasks; see `TaskSet.from_frame`."""
    check_choices(kind, labels)
    view = open_frame(frame)
    wide = isinstance(target, Iterable) and not isinstance(target, str)
    targets, aside = as_tuple(target), {*as_tuple(task), *as_tuple(target), *as_tuple(group), *as_tuple(drop)}
    categories = as_tuple(categorical)
    problems = check_arguments(
        view.columns, task=task, target=target, group=group, order=order, categorical=categorical, drop=drop
    )
    if len(view) == 0:
        problems.append("the frame has no rows")
    raise_together("from_frame", problems)

    codes, names = _tasks_of(view, task)
    cells = _targets_of(view, targets, kind, problems)
    features = [name for name in view.columns if name not in aside]

    def place(row: int) -> str:
        return f"row {row}, counted from 0, of {_called(names[codes[row]])}"

    table, odd = read_features(view, features, categories, place)
    problems += odd
    positions = _positions(view, order, codes, problems)
    edges = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    groups = _groups_of(view, group, positions, edges, names, problems)
    problems += [_bad_rows(name, cells[name], positions, edges, names, wide) for name in cells]
    raise_together("from_frame", [problem for problem in problems if problem])
    assert table is not None

    shown = {name: np.unique(values[~missing]) for name, (values, missing) in cells.items()}
    found, as_names = wide_kind(shown, kind)
    ordered = table.take(positions)
    tasks = []
    sorted_cells = {name: (values[positions], missing[positions]) for name, (values, missing) in cells.items()}
    if found == "classification":
        sorted_cells = {name: (as_labels(v, as_names=as_names), gone) for name, (v, gone) in sorted_cells.items()}
    for number, name in enumerate(names):
        stretch = slice(edges[number], edges[number + 1])
        for column, (values, missing) in sorted_cells.items():
            rows: Any = stretch
            if wide and missing[stretch].any():
                rows = stretch.start + np.flatnonzero(~missing[stretch])
                if len(rows) == 0:
                    continue
            label = column if task is None else f"{name}/{column}" if wide else str(name)
            tasks.append(Task(ordered.take(rows), values[rows], name=label, kind=found, group=groups[number]))
    if not tasks:
        shown_targets = listed([repr(name) for name in targets])
        raise TaskError(f"from_frame: the targets {shown_targets} are missing in every row; name measured columns.")
    return TaskSet(tasks, labels=labels or "shared")


def check_arguments(columns: Sequence[str], **given: Any) -> list[str]:
    """One problem for each column that is not there or has two parts to play; takes the arguments of `from_frame`."""
    target, targets = given["target"], as_tuple(given["target"])
    problems = check_columns(columns, **given)
    if not targets or len(set(targets)) < len(targets):
        problems.append(f"target={list(targets)!r} must name at least one column, and each once")
    if str(given["task"]) in targets or str(given["group"]) in targets:
        problems.append(f"target={target!r} also stands as task= or group=; a column has one part to play")
    if set(targets) & set(as_tuple(given["categorical"])):
        problems.append("categorical= names a target; say kind='classification' instead")
    return problems


def _tasks_of(view: Any, task: str | None) -> tuple[Int[np.ndarray, " row"], list[str | None]]:
    if task is None:
        return np.zeros(len(view), dtype=np.int64), [None]
    found = name_values(view[task])
    nameless = sum(name is None for name in found)
    if nameless:
        raise TaskError(
            f"from_frame: task column {task!r} is missing in {nameless} of {len(found)} rows; "
            "drop these rows or name their task."
        )
    return factorise(found)


def _targets_of(view: Any, targets: Sequence[str], kind: Kind | None, problems: list[str]) -> dict[str, Cells]:
    cells = {}
    for name in targets:
        try:
            values, missing = target_values(name, view[name])
        except TaskError as error:
            problems.append(str(error).rstrip("."))
            continue
        cells[name] = values, missing
        if values.dtype.kind == "U" and kind != "classification":
            stray = stray_text([None if gone else str(v) for v, gone in zip(values.tolist(), missing, strict=True)])
            if stray:
                problems.append(f"target {name!r} {stray}, or say kind='classification' if these are labels")
    return cells


def _positions(view: Any, order: str | None, codes: np.ndarray, problems: list[str]) -> Int[np.ndarray, " row"]:
    """Row numbers with the tasks one after another, in the order asked for inside each; otherwise as they came."""
    if order is not None:
        keys = view[order]
        absent = int(missing_cells(keys).sum())
        if absent:
            problems.append(f"order column {order!r} is missing in {absent} of {len(keys)} rows; fill in or drop these")
        else:
            try:
                ranks = np.unique(np.array(keys.to_list()), return_inverse=True)[1]
                return np.lexsort((ranks, codes))
            except TypeError:
                problems.append(f"order column {order!r} mixes types that cannot be compared; make it numbers or dates")
    return np.argsort(codes, kind="stable")


def _groups_of(
    view: Any,
    group: str | None,
    positions: np.ndarray,
    edges: np.ndarray,
    names: Sequence[str | None],
    problems: list[str],
) -> list[str | None]:
    if group is None:
        return [None] * len(names)
    codes, found = factorise(name_values(view[group]))
    codes = codes[positions]
    of_task = codes[edges[:-1]]
    astray = np.flatnonzero(codes != np.repeat(of_task, np.diff(edges)))
    bad = np.unique(np.searchsorted(edges, astray, side="right") - 1)
    said = []
    for number in bad:
        values = [repr(found[code]) for code in np.unique(codes[edges[number] : edges[number + 1]])]
        said.append(f"{_called(names[number])} ({edges[number + 1] - edges[number]} rows: {listed(values, 3)})")
    if said:
        remedy = "correct it or make smaller tasks"
        problems.append(f"group {group!r} must be constant inside a task, but is not in {listed(said)}; {remedy}")
    absent = [_called(names[t]) for t in range(len(names)) if found[of_task[t]] is None and t not in set(bad.tolist())]
    if absent:
        remedy = "fill it in (a task's own name makes it a group of its own)"
        problems.append(f"group {group!r} is missing in {listed(absent)}; {remedy}")
    return [found[code] for code in of_task]


def _called(name: str | None) -> str:
    return "the whole frame" if name is None else f"task {name!r}"


def _bad_rows(
    column: str, cells: Cells, positions: np.ndarray, edges: np.ndarray, names: Sequence[str | None], wide: bool
) -> str:
    """Say which tasks have missing or infinite targets; empty if none has."""
    values, missing = cells
    infinite = np.isinf(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
    bad = (infinite if wide else missing | infinite)[positions]
    if not bad.any():
        return ""
    counts = np.add.reduceat(bad.astype(np.int64), edges[:-1])
    sizes = np.diff(edges)
    said = [f"{_called(names[t])} ({counts[t]} of {sizes[t]} rows)" for t in np.flatnonzero(counts).tolist()]
    what = "infinite" if wide else "missing or infinite" if infinite.any() else "missing"
    remedy = "correct them" if wide else f"drop or fill these rows, or leave them out with target=[{column!r}]"
    if infinite.any() and not wide:
        remedy = "drop or correct these rows"
    return f"target {column!r} is {what} in {bad.sum()} rows of {len(said)} tasks: {listed(said)}; {remedy}"


def wide_kind(shown: dict[str, np.ndarray], kind: Kind | None) -> tuple[Kind, bool]:
    """Decide as `common_kind` does, but columns that are inferred to differ are an error."""
    present = {name: values for name, values in shown.items() if len(values)}
    if kind is None and len({infer_kind(values) for values in present.values()}) > 1:
        labels = [repr(name) for name, values in present.items() if infer_kind(values) == "classification"]
        numbers = [repr(name) for name, values in present.items() if infer_kind(values) == "regression"]
        raise TaskError(
            f"Tasks must be of one kind, but the targets {listed(labels)} look like labels and {listed(numbers)} like "
            "numbers; pass kind=, or read them as two sets."
        )
    return common_kind(shown, kind)


def from_arrays(
    Xs: Any,
    ys: Any,
    *,
    names: Sequence[str] | None = None,
    groups: Sequence[str | None] | None = None,
    kind: Kind | None = None,
    labels: Labels | None = None,
) -> TaskSet:
    """Read arrays, one X and y a task, or one X with wide targets; see `TaskSet.from_arrays`."""
    check_choices(kind, labels)
    single = is_frame(Xs) or (isinstance(Xs, np.ndarray) and Xs.ndim == 2)
    features, targets, given = _wide_arrays(Xs, ys) if single else (list(Xs), list(ys), None)
    if len(features) != len(targets):
        raise TaskError(f"from_arrays needs one y for each X, but got {len(features)} Xs and {len(targets)} ys.")
    width = len(str(max(len(features) - 1, 0)))
    word = "target" if single else "task"
    numbered = [f"{word}-{number:0{width}d}" for number in range(len(features))]
    called = [str(name) for name in (names if names is not None else given or numbered)]
    of_group = list(groups) if groups is not None else [None] * len(features)
    for argument, entries in (("names", called), ("groups", of_group)):
        if len(entries) != len(features):
            raise TaskError(
                f"from_arrays: {argument}= has {len(entries)} entries for {len(features)} tasks; give one a task."
            )
    problems: list[str] = []
    cells: dict[int, Cells] = {}
    for number, (name, y) in enumerate(zip(called, targets, strict=True)):
        try:
            cells[number] = array_target(name, y)
        except TaskError as error:
            problems.append(f"Task {name!r}: {str(error).rstrip('.')}")
    shown = {called[number]: np.unique(values[~missing]) for number, (values, missing) in cells.items()}
    found, as_names = (wide_kind if single else common_kind)(shown, kind)
    tasks = []
    for number, (values, missing) in cells.items():
        X, y = features[number], values
        if single:
            if missing.all():
                continue
            rows = np.flatnonzero(~missing)
            if len(rows) < len(values):
                X, y = X.take(rows) if isinstance(X, Table) else X[rows], values[rows]
        elif missing.any():
            where = np.flatnonzero(missing)
            problems.append(
                f"Task {called[number]!r} ({len(y)} rows): the target is missing in {len(where)} rows "
                f"(first: row {where[0]}); drop these rows or fill them in first"
            )
            continue
        try:
            y = as_labels(y, as_names=as_names) if found == "classification" else y
            tasks.append(Task(X, y, name=called[number], kind=found, group=of_group[number]))
        except TaskError as error:
            problems.append(str(error).rstrip("."))
    raise_together("from_arrays", problems)
    return TaskSet(tasks, labels=labels)


def _wide_arrays(X: Any, ys: Any) -> tuple[list[Any], list[Any], list[str] | None]:
    """One X and a table of targets, as lists of tasks."""
    rows = Table.from_frame(X) if is_frame(X) else np.asarray(X)
    given = None
    if is_frame(ys):
        table = Table.from_frame(ys)
        columns, given = list(table.columns), list(table.names)
    else:
        matrix = np.asarray(ys)
        if matrix.ndim != 2:
            raise TaskError(
                f"from_arrays got one X of shape {rows.shape} and ys of shape {matrix.shape}; pass a list of Xs and a list "
                "of ys, or ys of shape (row, target) for several targets."
            )
        columns = list(matrix.T)
    if any(len(column) != len(rows) for column in columns):
        raise TaskError(f"from_arrays: X has {len(rows)} rows, but ys {len(columns[0])}; pass the same rows.")
    return [rows] * len(columns), columns, given
