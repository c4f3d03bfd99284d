"""A pool of classes from which N-way K-shot tasks are drawn."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from jaxtyping import Shaped

from upstairs.errors import TaskError
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["ClassPool"]


@final
class ClassPool:
    """Many classes with some examples each; tasks are drawn from it as N-way K-shot episodes.

    Parameters
    ----------
    X : array of shape (row, ...)
        Examples; images keep their axes here and become rows of numbers in a task.
    labels : array of shape (row,)
        The class of each example.
    group : array of shape (row,), optional
        What a class belongs to (an alphabet); a class lies in one group, and `split` keeps groups together.

    Raises
    ------
    TaskError
        For unequal lengths, fewer than two classes, missing numbers or labels, or a class in two groups.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> pool = ClassPool(X, np.repeat(np.arange(10), 6))
    >>> pool
    ClassPool(10 classes, 60 rows, shape (4,))
    >>> train, valid, test = pool.split(valid=0.2, test=0.2, random_state=0)
    >>> train.episodes(3, ways=4, shots=1, queries=2, random_state=0)
    TaskSet(3 tasks, 36 rows, classification, own labels)
    """

    def __init__(self, X: Any, labels: Any, *, group: Any = None) -> None:
        self.X: Shaped[np.ndarray, "row ..."] = np.asarray(X)
        self.y = np.asarray(labels)
        if self.y.ndim != 1 or self.X.ndim < 2 or len(self.X) != len(self.y):
            raise TaskError(
                f"ClassPool needs X of shape (row, ...) and labels of shape (row,), but got {self.X.shape} and {self.y.shape}."
            )
        if self.X.dtype.kind not in "fiub" or not np.isfinite(self.X).all():
            raise TaskError("ClassPool: X must hold finite numbers; encode text and fill missing cells first.")
        if any(label is None or label != label for label in self.y.tolist()):
            raise TaskError("ClassPool: labels must not be missing; drop these rows first.")
        self.classes, first, self._codes = np.unique(self.y, return_index=True, return_inverse=True)
        if len(self.classes) < 2:
            raise TaskError(f"ClassPool needs at least 2 classes, but labels hold {len(self.classes)}.")
        groups = self.y.astype(str) if group is None else np.asarray(group).astype(str)
        if len(groups) != len(self.y):
            raise TaskError(f"ClassPool: group has {len(groups)} entries for {len(self.y)} rows; give one a row.")
        self.groups = groups[first]
        astray = np.flatnonzero(groups != self.groups[self._codes])
        if len(astray):
            raise TaskError(
                f"Class {self.y[astray[0]]!r} stands in the groups {self.groups[self._codes[astray[0]]]!r} and "
                f"{groups[astray[0]]!r}; a class belongs to one group."
            )
        self._rows = np.split(np.argsort(self._codes, kind="stable"), np.cumsum(np.bincount(self._codes))[:-1])

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        return f"ClassPool({len(self)} classes, {len(self.y)} rows, shape {self.X.shape[1:]})"

    @property
    def counts(self) -> np.ndarray:
        """Examples of each class, shape ``(class,)``."""
        return np.array([len(rows) for rows in self._rows])

    def rows_of(self, number: int) -> np.ndarray:
        """Row numbers of the class ``classes[number]``."""
        return self._rows[number]

    def select(self, numbers: Any) -> ClassPool:
        """Return the pool of some of its classes, by class number."""
        rows = np.concatenate([self._rows[int(number)] for number in numbers])
        return ClassPool(self.X[rows], self.y[rows], group=self.groups[self._codes[rows]])

    def split(
        self, *, valid: float = 0.2, test: float = 0.2, random_state: int | None = None
    ) -> tuple[ClassPool, ClassPool, ClassPool]:
        """Split the classes (by group where given) into training, validation and test pools.

        Raises
        ------
        TaskError
            If a part would hold fewer than two classes.
        """
        unique = np.unique(self.groups)
        order = np.random.default_rng(random_state).permutation(len(unique))
        n_test, n_valid = (max(1, round(share * len(unique))) if share > 0 else 0 for share in (test, valid))
        parts = [order[n_test + n_valid :], order[n_test : n_test + n_valid], order[:n_test]]
        pools = []
        for part, name in zip(parts, ("training", "validation", "test"), strict=True):
            numbers = np.flatnonzero(np.isin(self.groups, unique[part]))
            if len(numbers) < 2:
                raise TaskError(
                    f"split(valid={valid}, test={test}) leaves {len(numbers)} of {len(self)} classes as {name} classes, and 2 are "
                    "needed; change the shares or bring more classes."
                )
            pools.append(self.select(numbers))
        return pools[0], pools[1], pools[2]

    def episodes(
        self, n_episodes: int, *, ways: int, shots: int = 1, queries: int = 15, random_state: int | None = None
    ) -> TaskSet:
        """Draw tasks of ``ways`` classes with ``shots + queries`` examples each.

        Parameters
        ----------
        n_episodes : int
            Number of tasks.
        ways : int
            Classes a task.
        shots, queries : int
            Examples a class that a task needs for support and query; which are which is drawn later.
        random_state : int, optional
            The same number gives the same tasks.

        Raises
        ------
        TaskError
            If there are fewer classes than ways, or a class has fewer examples than ``shots + 1``.
        """
        usable = np.flatnonzero(self.counts >= shots + 1)
        if len(usable) < ways:
            raise TaskError(
                f"ways={ways} and shots={shots} ask for {ways} classes with at least {shots + 1} examples, but only "
                f"{len(usable)} of {len(self)} classes have them; ask for fewer ways or shots."
            )
        rng = np.random.default_rng(random_state)
        flat = self.X.reshape(len(self.X), -1)
        width = len(str(max(n_episodes - 1, 1)))
        tasks = []
        for number in range(n_episodes):
            chosen = rng.choice(usable, size=ways, replace=False)
            rows = np.concatenate([rng.permutation(self._rows[c])[: shots + queries] for c in chosen])
            tasks.append(Task(flat[rows], self.y[rows], name=f"episode-{number:0{width}d}", kind="classification"))
        return TaskSet(tasks, labels="own")
