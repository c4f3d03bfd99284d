"""Training rows as a prior is learned from them: encoded, task after task (or class after class)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from upstairs.errors import TaskError
from upstairs.learners.rules import DESCENT, MACHINE, TREE
from upstairs.outer.metric import Classes
from upstairs.prior import Prior
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

__all__ = [
    "Seen",
    "classes_again",
    "classes_of",
    "encoded",
    "held_out",
    "held_rows",
    "more_rows",
    "prior_of",
    "seen_of",
    "seen_of_classes",
]

HELD_OUT = 0.2
"""Share of the training tasks that say when to stop."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Encoded training rows that ``meta_partial_fit`` needs again; not part of the prior.

    ``y`` are standardised targets or class numbers; ``names`` and ``groups`` have one entry a task (or a class, for
    a class pool).
    """

    x: Float[np.ndarray, "row feature"]
    y: np.ndarray
    offsets: Int[np.ndarray, " boundary"]
    names: tuple[str, ...]
    groups: tuple[str, ...]

    def task(self, number: int) -> tuple[Float[np.ndarray, "row feature"], np.ndarray]:
        """Return the rows of one task."""
        rows = slice(self.offsets[number], self.offsets[number + 1])
        return self.x[rows], self.y[rows]

    def some(self, chosen: Bool[np.ndarray, " task"]) -> Seen:
        """Return only the chosen tasks."""
        numbers = np.flatnonzero(chosen)
        rows = np.repeat(chosen, np.diff(self.offsets))
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[numbers])]).astype(np.int64)
        names, groups = (tuple(entries[n] for n in numbers) for entries in (self.names, self.groups))
        return Seen(self.x[rows], self.y[rows], offsets, names, groups)

    def extended(self, more: Seen) -> Seen:
        """Return these rows and more, in the canonical order of names.

        Raises
        ------
        TaskError
            For a name that stands in both.
        """
        twice = sorted(set(self.names) & set(more.names))
        if twice:
            raise TaskError(
                f"Task {twice[0]!r} was learned already ({len(twice)} such tasks); leave it out, or rename it if it is new."
            )
        parts = [(name, seen, number) for seen in (self, more) for number, name in enumerate(seen.names)]
        parts.sort(key=lambda entry: entry[0])
        slices = [(seen, slice(seen.offsets[n], seen.offsets[n + 1])) for _, seen, n in parts]
        offsets = np.concatenate([[0], np.cumsum([part.stop - part.start for _, part in slices])]).astype(np.int64)
        return Seen(
            np.concatenate([seen.x[part] for seen, part in slices]),
            np.concatenate([seen.y[part] for seen, part in slices]),
            offsets,
            tuple(name for name, _, _ in parts),
            tuple(seen.groups[n] for _, seen, n in parts),
        )


def encoded(tasks: TaskSet, categorical: tuple[str | int, ...]) -> tuple[dict[str, Any], Seen, Encoder]:
    """Fit the encoder on tasks that share targets or labels, and apply it.

    Returns
    -------
    settings
        ``kind``, ``labels``, ``classes``, ``encoder`` and ``target`` of the prior.
    seen, encoder
    """
    listed = list(tasks)
    columns = concatenate_columns(listed)
    encoder = Encoder.fit(columns, categorical=categorical)
    settings: dict[str, Any] = {
        "kind": tasks.kind,
        "labels": tasks.labels,
        "classes": tasks.classes,
        "encoder": encoder.spec(),
        "target": [0.0, 1.0],
    }
    if tasks.kind == "regression":
        y = np.concatenate([task.y for task in listed])
        settings["target"] = [float(y.mean()), float(y.std()) or 1.0]
    return settings, seen_of(tasks, encoder.encode(columns), settings), encoder


def held_rows(validation: TaskSet | ClassPool | None, encoder: Encoder, settings: Mapping[str, Any]) -> Seen | None:
    """Apply the encoder of the training tasks to validation tasks."""
    if validation is None:
        return None
    assert isinstance(validation, TaskSet)
    rows = [encoder.encode(task.X, task=task.name) for task in validation]
    return seen_of(validation, np.concatenate(rows), settings)


def more_rows(tasks: TaskSet | ClassPool, encoder: Encoder, settings: Mapping[str, Any]) -> Seen:
    """Apply the encoder and the labels of a prior to tasks that are learned later.

    Raises
    ------
    TaskError
        If the tasks are of another kind, or have a label that the prior does not know.
    """
    assert isinstance(tasks, TaskSet)
    if tasks.kind != settings["kind"]:
        raise TaskError(f"The prior was learned on {settings['kind']} tasks, but these are a {tasks.kind}.")
    unknown = sorted(set(tasks.classes) - set(settings["classes"]), key=str)
    if unknown:
        raise TaskError(
            f"Label {unknown[0]!r} is unknown to the prior, whose labels are {settings['classes']}; meta_fit on all tasks."
        )
    rows = [encoder.encode(task.X, task=task.name) for task in tasks]
    return seen_of(tasks, np.concatenate(rows), settings)


def classes_of(tasks: TaskSet | ClassPool, encoder: Encoder) -> tuple[Classes, tuple[str, ...]]:
    """Lay rows class after class; classes of one task (or of a pool) are met together."""
    if isinstance(tasks, ClassPool):
        rows = np.concatenate([tasks.rows_of(number) for number in range(len(tasks))])
        x = encoder.encode(tasks.X[rows].reshape(len(rows), -1).astype(np.float64))
        y = np.repeat(np.arange(len(tasks)), tasks.counts)
        group = np.unique(tasks.groups, return_inverse=True)[1]
        return Classes(x, y, np.zeros(len(tasks), dtype=np.int64), group), tuple(map(str, tasks.classes.tolist()))
    parts, sizes, owners, names, groups = [], [], [], [], []
    for number, (task, group_name) in enumerate(zip(tasks, tasks.groups, strict=True)):
        encoded = encoder.encode(task.X, task=task.name)
        for label in task.classes:
            rows = np.flatnonzero(task.y == label)
            parts.append(encoded[rows])
            sizes.append(len(rows))
            owners.append(number)
            names.append(f"{task.name}/{label}")
            groups.append(group_name)
    y = np.repeat(np.arange(len(sizes)), sizes)
    return Classes(np.concatenate(parts), y, np.array(owners), np.unique(groups, return_inverse=True)[1]), tuple(names)


def seen_of_classes(classes: Classes, names: Sequence[str], owners: Sequence[str] | None = None) -> Seen:
    """Rows class after class; the group of a class is its owner's name, or its own."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(classes.y))]).astype(np.int64)
    return Seen(classes.x, np.zeros(len(classes.x)), offsets, tuple(names), tuple(owners or names))


def classes_again(seen: Seen) -> Classes:
    """Undo `seen_of_classes`, as one pool in which every class is a group of its own."""
    count = len(seen.names)
    y = np.repeat(np.arange(count), np.diff(seen.offsets))
    return Classes(seen.x, y, np.zeros(count, dtype=np.int64), np.arange(count))


def held_out(groups: Int[np.ndarray, " task"], seed: int) -> Bool[np.ndarray, " task"]:
    """Choose whole groups, a fifth of them; with a single group, a fifth of its members."""
    unique = np.unique(groups)
    if len(unique) == 1:
        groups, unique = np.arange(len(groups)), np.arange(len(groups))
    count = min(max(1, round(HELD_OUT * len(unique))), len(unique) - 1)
    return np.isin(groups, np.random.default_rng([seed, 2]).permutation(unique)[:count])


def seen_of(tasks: TaskSet, x: Float[np.ndarray, "row feature"], settings: Mapping[str, Any]) -> Seen:
    """Put encoded rows of tasks together with standardised targets or class numbers."""
    y = np.concatenate([task.y for task in tasks])
    if settings["kind"] == "regression":
        center, scale = settings["target"]
        y = (y - center) / scale
    else:
        number = {label: code for code, label in enumerate(settings["classes"])}
        y = np.array([number[label] for label in y.tolist()], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(tasks.rows)]).astype(np.int64)
    return Seen(x, y, offsets, tasks.names, tasks.groups)


def prior_of(
    settings: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    tables: Mapping[str, np.ndarray],
    tasks: int,
    rows: int,
) -> Prior:
    """Put a prior together."""
    arrays = {f"params/{name}": np.asarray(array) for name, array in params.items()}
    arrays |= {f"tables/{name}": np.asarray(array) for name, array in tables.items()}
    family = {DESCENT: "gradient-descent", MACHINE: "svm", TREE: "decision-tree"}.get(
        settings["rule"], "neural-network"
    )
    return Prior(family, settings, arrays, {"tasks": tasks, "rows": rows})
