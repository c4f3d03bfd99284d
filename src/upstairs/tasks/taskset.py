"""A set of tasks: what every learner upstairs is given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final, overload

import numpy as np
from jaxtyping import Int

from upstairs.errors import TaskError
from upstairs.tasks.task import Kind, Labels, LazyTask, Task
from upstairs.tasks.task_readers import TaskReaders

__all__ = ["TaskSet", "check_disjoint"]


@final
class TaskSet(TaskReaders, Sequence[Task]):
    """Related tasks of one kind, read lazily where their reader allows it.

    Parameters
    ----------
    tasks : sequence of Task or LazyTask
        Names must be unique and kinds equal.
    labels : {"shared", "own"}, optional
        For classification. "shared": a label means the same in every task (active, inactive). "own": each task
        has classes of its own (characters of an alphabet). Inferred when not given: shared if some task shows
        every label that occurs.

    Raises
    ------
    TaskError
        For no task, mixed kinds, a name that stands twice, or a task with own labels and a single class.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> tasks = TaskSet([Task(rng.normal(size=(5, 2)), rng.normal(size=5), name=f"t{i}") for i in range(8)])
    >>> tasks
    TaskSet(8 tasks, 40 rows, regression)
    >>> train, valid, test = tasks.split(valid=0.25, test=0.25, random_state=0)
    >>> len(train), len(valid), len(test)
    (4, 2, 2)
    >>> len(tasks.filter(min_rows=6))
    0
    """

    def __init__(self, tasks: Iterable[Task | LazyTask], *, labels: Labels | None = None) -> None:
        self._entries: Sequence[Task | LazyTask] = tuple(tasks)
        kinds = {entry.kind for entry in self._entries}
        if len(kinds) > 1:
            odd = {
                kind: next(entry.name for entry in self._entries if entry.kind == kind)
                for kind in sorted(kinds, key=str)
            }
            raise TaskError(
                f"Tasks must be of one kind, but these are mixed: {', '.join(f'{name!r} is a {kind}' for kind, name in odd.items())}; "
                "pass kind= to say which is meant, or split them into two sets."
            )
        names = [entry.name for entry in self._entries]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise TaskError(
                f"Task names must be unique, but {twice[0]!r} stands {names.count(twice[0])} times; rename the tasks."
            )
        if labels not in (None, "shared", "own"):
            raise TaskError(f"labels must be 'shared', 'own' or None, but is {labels!r}.")
        self.kind: Kind | None = next(iter(kinds)) if kinds else None
        self.labels: Labels | None = None
        if self.kind == "classification":
            self.labels = labels or _infer_labels(self._entries)
        if self.labels == "own":
            single = [entry for entry in self._entries if len(entry.classes) < 2]
            if single:
                raise TaskError(
                    f"Task {single[0].name!r} ({len(single[0])} rows, {len(single[0].classes)} class): a task with labels "
                    f"of its own needs 2 classes ({len(single)} such tasks); leave them out, or say labels='shared'."
                )

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> TaskSet: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._sub(self._entries[index])
        if isinstance(index, Sequence | np.ndarray) and not isinstance(index, str):
            if np.asarray(index).dtype == bool:
                index = self._from_mask(np.asarray(index))
            return self._taken(index)
        if isinstance(index, str):
            raise TaskError(f"Tasks are found by number; for the name {index!r} use tasks.named({index!r}).")
        return self._entries[index].load()

    def __iter__(self) -> Iterator[Task]:
        for entry in self._entries:
            yield entry.load()

    def __repr__(self) -> str:
        labels = f", {self.labels} labels" if self.labels else ""
        return f"TaskSet({len(self)} tasks, {sum(self.rows)} rows, {self.kind}{labels})"

    @property
    def names(self) -> tuple[str, ...]:
        """Task names, in order."""
        return self._told("names") or tuple(entry.name for entry in self._entries)

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the group of each task; a task without one is a group of its own."""
        groups = self._told("groups") or [entry.group for entry in self._entries]
        pairs = zip(groups, self.names, strict=True)
        return tuple(group if group is not None else f"task:{name}" for group, name in pairs)

    @property
    def rows(self) -> Int[np.ndarray, " task"]:
        """Rows of each task."""
        told = self._told("rows")
        return np.array([len(entry) for entry in self._entries], dtype=np.int64) if told is None else told

    @functools.cached_property
    def classes(self) -> tuple[Any, ...]:
        """All labels that occur in any task, sorted; empty for a regression."""
        told = self._told("classes")
        return _union(self._entries) if told is None else told

    def named(self, name: str) -> Task:
        """Return the task of that name.

        Raises
        ------
        TaskError
            If there is none.
        """
        for entry in self._entries:
            if entry.name == name:
                return entry.load()
        raise TaskError(
            f"There is no task {name!r} among {len(self)}; the first are {', '.join(map(repr, self.names[:5]))}."
        )

    def canonical(self) -> TaskSet:
        """Return the same tasks in the order of their names, so that no result depends on the order they came in."""
        names = self.names
        return self._taken(sorted(range(len(names)), key=names.__getitem__))

    def filter(
        self,
        predicate: Callable[[Task], bool] | None = None,
        *,
        min_rows: int = 1,
        max_rows: int | None = None,
        min_classes: int = 0,
    ) -> TaskSet:
        """Keep tasks by size, by number of classes, or by any question that a function answers."""
        kept = [
            number
            for number, entry in enumerate(self._entries)
            if len(entry) >= min_rows
            and (max_rows is None or len(entry) <= max_rows)
            and (min_classes == 0 or len(entry.classes) >= min_classes)
            and (predicate is None or predicate(entry.load()))
        ]
        return self._taken(kept)

    def map(self, function: Callable[[Task], Task]) -> TaskSet:
        """Apply a function to every task now; names and groups may change, the kind may not become mixed."""
        return TaskSet([function(task) for task in self], labels=self.labels)

    def split(
        self, *, valid: float = 0.2, test: float = 0.2, random_state: int | None = None
    ) -> tuple[TaskSet, TaskSet, TaskSet]:
        """Split into training, validation and test tasks, by group where groups were given, never by row.

        Parameters
        ----------
        valid, test : float
            Shares of the groups, each rounded to whole groups (at least one if the share is not zero).
        random_state : int, optional
            The same number gives the same split, whatever order the tasks came in.

        Raises
        ------
        TaskError
            If nothing would be left to train on.
        """
        groups = np.array(self.groups, dtype=object)
        unique = np.array(sorted(set(groups)), dtype=object)
        order = np.random.default_rng(random_state).permutation(len(unique))
        n_test, n_valid = (max(1, round(share * len(unique))) if share > 0 else 0 for share in (test, valid))
        if not 0 <= valid < 1 or not 0 <= test < 1 or n_test + n_valid >= len(unique):
            raise TaskError(
                f"split(valid={valid}, test={test}) leaves no training task: there are {len(unique)} groups in {len(self)} "
                "tasks; ask for smaller shares or bring more tasks."
            )
        parts = (unique[order[n_test + n_valid :]], unique[order[n_test : n_test + n_valid]], unique[order[:n_test]])
        train, validation, held_out = (self[np.flatnonzero(np.isin(groups, part))] for part in parts)
        return train, validation, held_out

    def describe(self) -> dict[str, Any]:
        """Numbers about the set: tasks, rows, columns, classes, groups."""
        rows = self.rows
        summary: dict[str, Any] = {
            "tasks": len(self),
            "groups": len(set(self.groups)),
            "kind": self.kind,
            "rows": int(rows.sum()),
            "rows_min": int(rows.min()) if len(rows) else 0,
            "rows_median": float(np.median(rows)) if len(rows) else 0.0,
            "rows_max": int(rows.max(initial=0)),
            "same_columns": len({_column_set(c) for c in self._told("columns") or [e.columns for e in self._entries]})
            <= 1,
        }
        if self.kind == "classification":
            summary |= {"labels": self.labels, "classes": len(self.classes)}
        return summary

    def _from_mask(self, mask: np.ndarray) -> np.ndarray:
        if mask.shape != (len(self),):
            raise TaskError(f"A mask needs one truth value a task, {len(self)} in all, but has shape {mask.shape}.")
        return np.flatnonzero(mask)

    def _told(self, what: str) -> Any:
        """What the entries of a store know of all tasks at once; None for others."""
        return None if isinstance(self._entries, tuple) else getattr(self._entries, what)

    def _taken(self, numbers: Any) -> TaskSet:
        if isinstance(self._entries, tuple):
            return self._sub(tuple(self._entries[int(i)] for i in numbers))
        return self._sub(self._entries.take(numbers))  # type: ignore[attr-defined]

    def _sub(self, entries: Sequence[Task | LazyTask]) -> TaskSet:
        return TaskSet.over(entries, self.kind, self.labels)

    @classmethod
    def over(cls, entries: Sequence[Task | LazyTask], kind: Kind | None, labels: Labels | None) -> TaskSet:
        """Make a set of entries that were checked before: a tuple, or the index of a store."""
        part = object.__new__(TaskSet)
        part._entries, part.kind, part.labels = entries, kind, labels
        return part


def check_disjoint(**parts: TaskSet) -> None:
    """Raise if a task or a group stands in two hand-made parts of a split.

    Raises
    ------
    TaskError
        Naming the group (or task) and the two parts.
    """
    seen: dict[str, str] = {}
    for part, tasks in parts.items():
        for group in sorted(set(tasks.groups)):
            if seen.setdefault(group, part) != part:
                what = f"Task {group[5:]!r}" if group.startswith("task:") else f"Group {group!r}"
                raise TaskError(
                    f"{what} stands in {seen[group]} and in {part}; tasks of one group must be on one side: "
                    "use tasks.split(...), or move the group."
                )


def _infer_labels(entries: Sequence[Task | LazyTask]) -> Labels:
    everything = len(_union(entries))
    return "shared" if max((len(entry.classes) for entry in entries), default=0) == everything else "own"


def _union(entries: Sequence[Task | LazyTask]) -> tuple[Any, ...]:
    found = {label for entry in entries for label in entry.classes}
    try:
        return tuple(sorted(found))
    except TypeError:
        return tuple(sorted(found, key=str))


def _column_set(columns: tuple[str, ...] | int) -> Any:
    return columns if isinstance(columns, int) else frozenset(columns)
